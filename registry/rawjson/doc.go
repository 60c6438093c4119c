// Package rawjson takes JSON (RFC 8259) apart and puts it together again without
// touching what it was not asked to: members keep their order, and values that
// nobody changed keep their bytes. An index can so be rewritten by one who knows
// only some of its keys.
//
// What two readers could take for different things is refused: a name twice in one
// object, and text that is not UTF-8.
//
// This package imports nothing of larder.
package rawjson
