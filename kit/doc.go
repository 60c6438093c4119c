// Package kit is what larder answers when it is addressed as an origin,
// http://larder.example:3128/: what a node needs to find and to trust it, made by
// package certs, and pages for people.
//
// All of it is public: a root certificate and where the proxy is are no secrets, and
// who may use the proxy is not decided here. Nobody proves who he is, and no rule of
// the policy applies. What the Host field says goes into scripts that nodes run, and
// is read by Target, which lets nothing through but a host and a port.
//
// A package that has more to show there gives New a Route.
package kit
