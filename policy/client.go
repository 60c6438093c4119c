package policy

import (
	"net/netip"
	"slices"
)

// Client is who asks: what rules with clients or users look at. The zero value is
// larder itself, such as when it fills the cache ahead of time; no rule with
// clients or users matches it.
type Client struct {
	// Addr is the address that the connection comes from.
	Addr netip.Addr
	// User is the name that the client has proved, "" if none.
	User string
}

// anyUser stands in users for everybody who has proved a name.
const anyUser = "*"

// plain is the client with its address as networks of rules are written: what
// comes over IPv6 from an IPv4 client is the IPv4 address, and a zone says
// nothing of where a client is.
func (c Client) plain() Client {
	c.Addr = c.Addr.Unmap().WithZone("")
	return c
}

// from reports whether the rule is for the address of a plain client.
func (r *Rule) from(c *Client) bool {
	if len(r.Clients) == 0 {
		return true
	}
	for _, network := range r.Clients {
		if network.Contains(c.Addr) {
			return true
		}
	}
	return false
}

// by reports whether the rule is for the user.
func (r *Rule) by(c *Client) bool {
	if len(r.Users) == 0 {
		return true
	}
	if c.User == "" {
		return false
	}
	for _, user := range r.Users {
		if user == c.User || user == anyUser {
			return true
		}
	}
	return false
}

// coversClients reports whether the rule is for every client that another is for.
func (r *Rule) coversClients(other *Rule) bool {
	if len(r.Clients) == 0 {
		return true
	}
	if len(other.Clients) == 0 {
		return false
	}
	for _, n := range other.Clients {
		if !slices.ContainsFunc(r.Clients, func(m netip.Prefix) bool {
			return m.Bits() <= n.Bits() && m.Contains(n.Addr())
		}) {
			return false
		}
	}
	return true
}

// coversUsers reports whether the rule is for every user that another is for.
func (r *Rule) coversUsers(other *Rule) bool {
	if len(r.Users) == 0 {
		return true
	}
	if len(other.Users) == 0 {
		return false
	}
	if slices.Contains(r.Users, anyUser) {
		return true
	}
	for _, user := range other.Users {
		if !slices.Contains(r.Users, user) {
			return false
		}
	}
	return true
}
