// Package mitm is the wire: it accepts connections, answers CONNECT, opens the
// TLS of the hosts that policy names with leaves from the private authority,
// tunnels the rest byte for byte, and carries messages to upstream unmodified
// (RFC 9110, RFC 9112, RFC 9113; errors as RFC 9209 Proxy-Status).
//
// What may be stored it hands to package cache; which host is what, it asks
// package policy; certificates come from package ca. It declares the small
// interfaces through which it uses them. A reader who wants the way of a
// request starts at Server.
package mitm
