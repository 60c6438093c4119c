package mitm

import "fmt"

// Reload reads the files of roots, certificates and credentials again: all of
// them, or after an error none. Connections whose certificates would not be the
// same any more are not used for further requests.
func (u *Upstream) Reload() error {
	commit, err := u.PrepareReload()
	if err != nil {
		return err
	}
	commit()
	return nil
}

// PrepareReload is Reload up to where it cannot fail any more: what was read is in
// force once commit is called, which may also be left.
func (u *Upstream) PrepareReload() (commit func(), err error) {
	rest, err := u.rest.read(nil)
	if err != nil {
		return nil, fmt.Errorf("upstream.%w", err)
	}
	origins := make([]secrets, len(u.origins))
	for i, o := range u.origins {
		if origins[i], err = o.read(rest.tls); err != nil {
			return nil, fmt.Errorf("upstream.hosts, entry %d: %w", i+1, err)
		}
	}
	parents := make([]secrets, len(u.parents))
	for i, p := range u.parents {
		if p.Proxy == nil {
			continue
		}
		if parents[i], err = p.read(); err != nil {
			return nil, fmt.Errorf("upstream.parents, entry %d: %w", i+1, err)
		}
	}
	return func() { u.replace(rest, origins, parents) }, nil
}

// replace puts what the files hold now in the place of what they held.
func (u *Upstream) replace(rest secrets, origins, parents []secrets) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, p := range u.parents {
		p.credential.Store(parents[i].credential)
		if old := p.tls.Swap(parents[i].tls); old != nil && old.digest != parents[i].tls.digest {
			u.retire(func(w way) bool { return w.parent == p })
		}
	}
	u.renew(u.rest, rest)
	for i, o := range u.origins {
		u.renew(o, origins[i])
	}
}

// renew gives an origin what its files hold now. The caller holds mu.
func (u *Upstream) renew(o *origin, s secrets) {
	o.credential.Store(s.credential)
	if old := o.tls.Swap(s.tls); old != nil && old.digest != s.tls.digest {
		u.retire(func(w way) bool { return w.origin == o })
	}
}

// retire drops the carriers of some ways; what they have under way goes on. The
// caller holds mu.
func (u *Upstream) retire(which func(way) bool) {
	for w, c := range u.carriers {
		if which(w) {
			delete(u.carriers, w)
			c.closeIdle()
		}
	}
}
