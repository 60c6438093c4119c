package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"larder/admin"
	"larder/cache"
	"larder/cache/warm"
	"larder/policy"
)

// storeAPI gives the admin listener the node's store in its words.
func (n *node) storeAPI() admin.StoreAPI {
	a := &storeAPI{
		node:      n,
		catalogue: n.cache.Catalogue(n.proxy.RuleFor).WithContent(n.proxy.RuleForContent),
		fetcher:   warm.Fetcher{Handler: n.proxy.ServeOwn, Drop: n.dropStored},
	}
	return admin.StoreAPI{Objects: a, Scrubber: a, Carrier: a, Warmer: a}
}

// dropStored makes unusable what is stored for a URL.
func (n *node) dropStored(target *url.URL) {
	rule := n.proxy.RuleFor(target)
	if rule == nil {
		rule = &cache.Rule{}
	}
	n.cache.DropUnder(target, rule)
}

// storeCheck warns of a broken store. Where requests pass without it, it is no
// reason to take larder out of service: all of a fleet's may have the same trouble.
func (n *node) storeCheck() admin.Check {
	return admin.Check{
		Name:     "store",
		Ready:    func(context.Context) error { return n.cache.StoreTrouble() },
		Advisory: n.policy.Settings().Store.OnFailure == policy.PassOnFailure,
	}
}

// storeUsage gives the admin listener the store's figures.
type storeUsage struct{ node *node }

func (u storeUsage) Usage() admin.Usage {
	s := u.node.cache.Store()
	if s == nil {
		return admin.Usage{}
	}
	st := s.Stats()
	return admin.Usage{Objects: int64(st.Objects), Bytes: st.Bytes, MaxBytes: st.MaxSize}
}

// storeAPI is the node's side of the store API.
type storeAPI struct {
	node      *node
	catalogue *cache.Catalogue
	fetcher   warm.Fetcher
}

func (a *storeAPI) List(ctx context.Context, match func(string) bool) iter.Seq2[admin.Object, error] {
	return func(yield func(admin.Object, error) bool) {
		for o, err := range a.catalogue.List(ctx, match) {
			shown := objectOf(&o)
			shown.Header = nil
			if !yield(shown, err) {
				return
			}
		}
	}
}

func (a *storeAPI) Find(ctx context.Context, raw string) ([]admin.Object, error) {
	target, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	found, err := a.catalogue.Find(ctx, target)
	shown := make([]admin.Object, len(found))
	for i := range found {
		shown[i] = objectOf(&found[i])
	}
	return shown, err
}

func objectOf(o *cache.Object) admin.Object {
	shown := admin.Object{
		URL: o.URL, Status: o.Status, Size: o.Size, SHA256: hex.EncodeToString(o.SHA256[:]), Stored: o.Stored.UTC(),
		Rule: o.Rule, Fresh: o.Fresh, Uses: uint64(o.Uses), Select: o.Select, Header: o.Header,
	}
	for _, c := range o.Verified {
		shown.Verified = append(shown.Verified, c.String())
	}
	if o.TTL != cache.Forever {
		shown.TTL = new(int64(o.TTL / time.Second))
	}
	return shown
}

func (a *storeAPI) Remove(ctx context.Context, match func(string) bool, progress func(admin.Removal)) (admin.Removal, error) {
	done, err := a.catalogue.Remove(ctx, match, func(p cache.Removed) { progress(admin.Removal(p)) })
	a.node.logger.Info("objects removed", "scanned", done.Scanned, "removed", done.Removed, "err", err)
	return admin.Removal(done), err
}

func (a *storeAPI) Verify(ctx context.Context, rate int64, progress func(admin.Scrub)) (admin.Scrub, error) {
	done, err := a.catalogue.Verify(ctx, rate, func(p cache.Verified) { progress(admin.Scrub(p)) })
	a.node.logger.Info("store verified", "objects", done.Objects, "bytes", done.Bytes, "damaged", done.Damaged, "err", err)
	return admin.Scrub(done), err
}

func (a *storeAPI) Export(ctx context.Context, match func(string) bool, w io.Writer) error {
	totals, err := a.catalogue.Export(ctx, match, w)
	a.node.logger.Info("objects exported", "responses", totals.Responses, "bytes", totals.Bytes, "damaged", totals.Damaged, "err", err)
	return err
}

func (a *storeAPI) Import(ctx context.Context, r io.Reader, progress func(admin.Imported), refused func(admin.Refusal)) (admin.Imported, error) {
	done, err := a.catalogue.Import(ctx, r,
		func(p cache.Imported) { progress(admin.Imported(p)) },
		func(what string, why error) { refused(admin.Refusal{URL: what, Reason: why.Error()}) })
	a.node.logger.Info("objects imported", "responses", done.Responses, "bytes", done.Bytes, "refused", done.Refused, "err", err)
	return admin.Imported(done), err
}

func (a *storeAPI) Warm(ctx context.Context, it admin.WarmItem) admin.WarmResult {
	shown := admin.WarmResult{URL: it.URL}
	digest := warm.Digest("")
	if it.Digest != "" {
		var err error
		if digest, err = warm.ParseDigest(it.Digest); err != nil {
			shown.Error = err.Error()
			return shown
		}
	}
	if u, err := url.Parse(it.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		shown.Error = fmt.Sprintf("%q is no absolute http or https URL", it.URL)
		return shown
	}
	res := a.fetcher.Fetch(ctx, warm.Item{URL: it.URL, Header: it.Header, Digest: digest})
	shown.Status, shown.Bytes, shown.Hit, shown.Stored, shown.Cache = res.Status, res.Bytes, res.Hit, res.Stored, res.CacheStatus
	if res.Err != nil {
		shown.Error = res.Err.Error()
		if res.URL != it.URL {
			shown.Error = fmt.Sprintf("redirected to %s: %v", res.URL, res.Err)
		}
	}
	return shown
}

func (a *storeAPI) Fetch(w http.ResponseWriter, r *http.Request) {
	_ = a.node.proxy.ServeOwn(w, r) // whether it is stored is not asked
}
