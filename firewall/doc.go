// Package firewall writes nftables rulesets that turn connections to larder, or
// that let nobody but larder out. It runs nothing: the text is for nft(8), after
// an operator has read it.
package firewall
