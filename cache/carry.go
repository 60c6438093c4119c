package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"larder/cache/archive"
	"larder/cache/store"
)

// exported is a stored response on its way into an archive.
type exported struct {
	sum [32]byte
	key store.Key
}

// Export writes an archive (package archive) of the stored responses whose URL match
// accepts to w. The same responses give the same archive. Those that go or are
// replaced meanwhile are left out; a body that turns out to be damaged is marked in
// the archive and dropped from the store.
func (c *Catalogue) Export(ctx context.Context, match func(url string) bool, w io.Writer) (archive.Totals, error) {
	var all []exported
	for e, err := range c.entries(ctx, match) {
		if err != nil {
			return archive.Totals{}, err
		}
		all = append(all, exported{e.SHA256, e.Key})
	}
	slices.SortFunc(all, func(x, y exported) int {
		return cmp.Or(bytes.Compare(x.sum[:], y.sum[:]), bytes.Compare(x.key[:], y.key[:]))
	})
	a, err := archive.NewWriter(w)
	if err != nil {
		return archive.Totals{}, err
	}
	for len(all) > 0 {
		if err := ctx.Err(); err != nil {
			return archive.Totals{}, err
		}
		n := 1
		for n < len(all) && all[n].sum == all[0].sum {
			n++
		}
		if err := c.exportBody(a, all[:n]); err != nil {
			return archive.Totals{}, err
		}
		all = all[n:]
	}
	return a.Close()
}

// exportBatch bounds the responses to one body that are held at once.
const exportBatch = 1000

// exportBody writes one body with the responses that have it.
func (c *Catalogue) exportBody(a *archive.Writer, all []exported) error {
	s, err := c.open()
	if err != nil {
		return err
	}
	var written bool
	var batch []archive.Response
	for _, e := range all {
		o, err := s.Peek(e.key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		rec, err := decodeRecord(o.Meta())
		if err != nil || rec.kind != kindObject || o.SHA256() != e.sum {
			o.Release()
			continue
		}
		if !written {
			written = true
			err = a.Body(e.sum, o.Size(), io.NewSectionReader(o, 0, o.Size()))
			if _, damaged := errors.AsType[*archive.DamagedError](err); damaged {
				// Its responses go along, so that who imports can name them.
				c.cache.log.Warn("a stored body is damaged and not exported", "url", rec.url, "err", err)
				err = nil
			}
		}
		o.Release()
		if err != nil {
			return err
		}
		batch = append(batch, rec.response())
		if len(batch) == exportBatch {
			if err := a.Responses(e.sum, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return a.Responses(all[0].sum, batch)
}

// response is the record as an archive holds it.
func (m *record) response() archive.Response {
	r := archive.Response{
		URL: m.url, Status: m.status, Requested: m.requested, Received: m.received,
		Header: m.header, Select: selectMap(m.selectors),
		Partition: m.partition,
	}
	if m.etag != m.header.Get("Etag") {
		r.ETag = m.etag
	}
	if m.lastModified != m.header.Get("Last-Modified") {
		r.LastModified = m.lastModified
	}
	return r
}

// Imported counts what Import has done so far.
type Imported struct {
	Responses int64 // stored
	Present   int64 // left out, since one at least as recent was there
	Refused   int64
	Bodies    int64
	Bytes     int64 // of all bodies
}

// importer is one call of Import.
type importer struct {
	*Catalogue
	ctx      context.Context // of the one call that this struct lives for
	store    *store.Store
	progress func(Imported)
	refused  func(what string, why error)
	done     Imported

	// body is the one that was read last: a writer until its first response is
	// committed, then the key of that one. bad is why its responses are refused.
	body  *store.Writer
	size  int64
	first *store.Key
	bad   error
}

// Import stores the responses of an archive, as if they had been fetched when they
// were fetched. Each becomes visible after the digest of its body was verified.
// Responses that are damaged, that no rule stores, or that the rule would not find
// are given to refused, with the URL or the name of the file, and left out; so are
// those of which the store has one at least as recent. The error is that of the
// archive as a whole, of ctx or of the store; what came before it stays.
func (c *Catalogue) Import(ctx context.Context, r io.Reader, progress func(Imported), refused func(what string, why error)) (Imported, error) {
	s, err := c.open()
	if err != nil {
		return Imported{}, err
	}
	i := &importer{Catalogue: c, ctx: ctx, store: s, progress: progress, refused: refused}
	defer i.closeBody()
	a := archive.NewReader(r)
	for {
		e, err := a.Next()
		if err == io.EOF {
			return i.done, nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return i.done, fmt.Errorf("the archive is cut short: %w", err)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = i.entry(e)
		}
		if err != nil {
			return i.done, err
		}
		if progress != nil {
			progress(i.done)
		}
	}
}

func (i *importer) closeBody() {
	if i.body != nil {
		i.body.Close() // forgets what was not committed
	}
	i.body, i.size, i.first, i.bad = nil, 0, nil, nil
}

func (i *importer) entry(e *archive.Entry) error {
	if e.Body != nil {
		return i.readBody(e)
	}
	if e.Err != nil {
		i.refuse(e.Name, e.Err)
		return nil
	}
	for n := range e.Responses {
		r := &e.Responses[n]
		why, err := i.response(r)
		if err != nil {
			return fmt.Errorf("import %s: %w", r.URL, err)
		}
		if why != nil {
			i.refuse(r.URL, why)
		}
	}
	return nil
}

func (i *importer) refuse(what string, why error) {
	i.done.Refused++
	if i.refused != nil {
		i.refused(what, why)
	}
}

// readBody writes a body into the store, where it stays unseen until a response is
// committed with it.
func (i *importer) readBody(e *archive.Entry) error {
	i.closeBody()
	w, err := i.store.Create(i.ctx)
	if err != nil {
		return err
	}
	i.body, i.size = w, e.Size
	if e.Size > i.store.MaxObject(store.CommitOptions{}) {
		i.bad = fmt.Errorf("its body of %d bytes is larger than half of the store", e.Size)
		return nil
	}
	buf := getBuffer()
	defer putBuffer(buf)
	to := &storing{w: w, ctx: i.ctx}
	// Without ReadFrom and WriteTo, so that the buffer is used.
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{e.Body}, *buf)
	_, damaged := errors.AsType[*archive.DamagedError](err)
	switch {
	case to.err != nil:
		return fmt.Errorf("import a body of %d bytes: %w", e.Size, to.err)
	case damaged:
		i.bad = err
	case err != nil:
		return err
	default:
		i.done.Bodies++
		i.done.Bytes += e.Size
	}
	return nil
}

// storing tells an error of the store from one of the archive.
type storing struct {
	w   *store.Writer
	ctx context.Context // of the one body that this struct lives for
	err error
}

func (s *storing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		err = s.ctx.Err()
	}
	s.err = err
	return n, err
}

// response stores one response, or says why not; err is the store's.
func (i *importer) response(r *archive.Response) (why, err error) {
	if i.bad != nil {
		return i.bad, nil
	}
	if err := r.Check(); err != nil {
		return err, nil
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		return err, nil
	}
	asked, fields, ok := askedOf(r.Select)
	if !ok {
		return errors.New("what its request asked for is damaged"), nil
	}
	rule := i.ruleOf(u, asked)
	if rule == nil {
		return errors.New("no rule of this larder's policy stores it"), nil
	}
	rule = rule.at(u)
	if rule.MaxObject > 0 && i.size > rule.MaxObject {
		return fmt.Errorf("rule %s stores bodies of up to %d bytes, and this one has %d", rule.Name, rule.MaxObject, i.size), nil
	}
	if limit := i.store.MaxObject(rule.keeping()); i.size > limit {
		return fmt.Errorf("the objects of rule %s may take %d bytes together, and this one alone has %d", rule.Name, rule.MaxStore, i.size), nil
	}
	if rule.byContent() && !rule.isContent(i.body.Sum()) {
		return errors.New("it is not what the digest in its URL stands for"), nil
	}
	if r.Partition != rule.Partition {
		return fmt.Errorf("it was fetched with other changes to the request header than rule %s makes", rule.Name), nil
	}
	rec, set, request := importedRecord(r, rule, asked, fields)
	if need := selecting(rule, request, rec.header); !containsAll(set, need) {
		return fmt.Errorf("responses of its URL are kept apart by %s, of which the archive does not say all", strings.Join(need, ", ")), nil
	}
	primary := asked.key(u, rule)
	if i.present(primary, rec, set, request) {
		i.done.Present++
		return nil, nil
	}
	if why := i.verify(u, rule, rec, asked, set, request); why != nil {
		return why, nil
	}
	key, err := i.cache.storageKey(primary, rule, set, request)
	if err != nil {
		return nil, err
	}
	if err := i.commit(key, rec.encode(), rule.keeping()); err != nil {
		return nil, err
	}
	i.done.Responses++
	return nil, nil
}

// verify holds a response to what is known here of its digest, as if upstream had sent it,
// and notes in rec what it was found to have.
func (i *importer) verify(u *url.URL, rule *Rule, rec *record, asked askedFor, set []string, request http.Header) error {
	c, sum := i.cache, i.body.Sum()
	log := c.log.With("url", logURL(u), "rule", rule.Name)
	if rec.status != http.StatusOK || asked.content != nil {
		return nil
	}
	claims := append(rule.claims(u, rec.header), c.learnt(u, rule)...)
	entry := c.ledgered(rule, u, rec.status, set, request, rec.header)
	check := rule.newCheck(claims, rec.header, entry != nil)
	if check == nil {
		return nil
	}
	defer check.Close()
	if !check.Idle() {
		if _, err := io.Copy(check, io.NewSectionReader(i.body, 0, i.size)); err != nil {
			return fmt.Errorf("read its body again: %w", err)
		}
	}
	r := check.Finish(sum, i.body)
	if rule.Verify != VerifyOff {
		found := c.settle(r, rule, u, log)
		switch {
		case found.err != nil:
			return found.err
		case found.unstored != "":
			return fmt.Errorf("rule %s does not store it: %s", rule.Name, found.unstored)
		}
		rec.verified = found.verified
	}
	return c.enter(entry, r.Content, r.ContentOK, sum, i.size, log)
}

// importedRecord is the record of a response, with what selects it: a set of fields,
// and a request that has them.
func importedRecord(r *archive.Response, rule *Rule, asked askedFor, selects map[string]*string) (rec *record, set []string, request http.Header) {
	set, request = requestOf(selects)
	fields := storedHeader(r.Header, rule, r.Received)
	rec = &record{
		kind: kindObject, status: r.Status, url: r.URL, requested: r.Requested, received: r.Received,
		etag: cmp.Or(r.ETag, fields.Get("Etag")), lastModified: cmp.Or(r.LastModified, fields.Get("Last-Modified")),
		header: fields, selectors: append(asked.content.selectors(asked.method), selectorsOf(set, request)...), partition: r.Partition,
	}
	return rec, set, request
}

// selecting lists the fields that must be known of a response. That one without a
// content coding suits every client, keyFields can only tell from the whole request.
func selecting(rule *Rule, request, response http.Header) []string {
	need := keyFields(rule, request, response)
	if rule.Mode != HTTP && isIdentity(response) {
		need = slices.DeleteFunc(need, func(name string) bool { return name == "accept-encoding" })
	}
	return need
}

// present reports whether a response at least as recent is stored in the place of rec.
func (i *importer) present(key store.Key, rec *record, set []string, request http.Header) bool {
	old := i.peek(key)
	if old != nil && old.kind == kindVariants {
		old = i.peek(variantKey(key, old.nonce, set, fieldSource(request)))
	} else if len(set) > 0 {
		return false
	}
	return old != nil && old.kind == kindObject && !old.received.Before(rec.received)
}

// peek returns the record at key, or nil.
func (i *importer) peek(key store.Key) *record {
	o, err := i.store.Peek(key)
	if err != nil {
		return nil
	}
	defer o.Release()
	rec, err := decodeRecord(o.Meta())
	if err != nil {
		return nil
	}
	return rec
}

// commit makes a response visible: the first one of a body with the body, the others
// beside it.
func (i *importer) commit(key store.Key, meta []byte, o store.CommitOptions) error {
	if i.first != nil {
		err := i.store.LinkWith(key, *i.first, meta, o)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return errors.New("the body was evicted in the middle of the import: the archive is larger than the store")
	}
	_, err := i.body.CommitWith(key, meta, o)
	if err == nil {
		i.first = &key
	}
	return err
}
