// Package pypi reads and writes the index of Python packages: the Simple repository
// API as HTML (PEP 503) and JSON (PEP 691, 700), with yanked files (PEP 592), metadata
// beside the file (PEP 658, 714) and attestations (PEP 740), and the older JSON API.
// It also reads what file names say (PEP 427, 440, 625).
//
// Start at ParseJSON, ParseHTML and Project. What is not known is kept: keys of JSON
// with their bytes and in their order, attributes and meta elements of HTML. HTML is
// written anew and never copied, so a page holds no link that was not understood;
// JSON that names a key twice is refused for the same reason.
//
// The whole of a page is in memory; whoever reads it bounds it. This package imports
// nothing of larder but registry/rawjson and does not touch the network.
package pypi
