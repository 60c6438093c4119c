package pypi

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"larder/registry/rawjson"
)

// ParseJSON reads a project's page in its JSON form (PEP 691).
func ParseJSON(b []byte) (*Project, error) {
	p, err := parseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("read a project's page (PEP 691): %w", err)
	}
	return p, nil
}

func parseJSON(b []byte) (*Project, error) {
	v, err := rawjson.Parse(b)
	if err != nil {
		return nil, err
	}
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	p := &Project{object: o}
	p.APIVersion, err = apiVersion(o)
	if err != nil {
		return nil, err
	}
	p.Name, _ = o.Get("name").Text()
	files, err := o.Get("files").Array()
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	p.Files = make([]File, len(files))
	for i, v := range files {
		if err := p.Files[i].parse(v); err != nil {
			return nil, fmt.Errorf("files, number %d: %w", i+1, err)
		}
	}
	return p, nil
}

// apiVersion reads meta.api-version. A major version above 1 has a meaning that is
// not known yet (PEP 629: clients must fail).
func apiVersion(o *rawjson.Object) (string, error) {
	meta, err := o.Get("meta").Object()
	if err != nil {
		return "", nil //nolint:nilerr // mirrors leave it out
	}
	version, _ := meta.Get("api-version").Text()
	return version, supported(version)
}

func supported(version string) error {
	v, err := ParseVersion(version)
	if version == "" || err != nil {
		return nil //nolint:nilerr // said nothing
	}
	if two, err := ParseVersion("2"); err == nil && v.Compare(two) >= 0 {
		return fmt.Errorf("version %s of the index API is not known", version)
	}
	return nil
}

var errFileName = errors.New("a file needs a filename and a url")

func (f *File) parse(v rawjson.Value) error {
	o, err := v.Object()
	if err != nil {
		return err
	}
	f.object = o
	f.Name, _ = o.Get("filename").Text()
	f.URL, _ = o.Get("url").Text()
	if f.Name == "" || f.URL == "" {
		return errFileName
	}
	f.Hashes = hashesOf(o.Get("hashes"))
	f.RequiresPython, _ = o.Get("requires-python").Text()
	f.Yanked, f.YankedReason = yanked(o.Get("yanked"))
	for _, key := range metadataKeys {
		if v := o.Get(key); !v.IsNull() {
			f.Metadata = Sidecar{Available: string(v) != "false", Hashes: hashesOf(v)}
			break
		}
	}
	if v := o.Get("gpg-sig"); !v.IsNull() {
		f.GPGSig = new(string(v) == "true")
	}
	f.Provenance, _ = o.Get("provenance").Text()
	f.Size = -1
	if n, err := strconv.ParseInt(string(o.Get("size")), 10, 64); err == nil && n >= 0 {
		f.Size = n
	}
	f.UploadTime = instant(o.Get("upload-time"))
	return nil
}

// metadataKeys by preference: PEP 714 has clients look at the first.
var metadataKeys = [...]string{"core-metadata", "dist-info-metadata"}

// yanked reads false, true or a reason (PEP 592).
func yanked(v rawjson.Value) (bool, string) {
	if reason, ok := v.Text(); ok {
		return true, reason
	}
	return string(v) == "true", ""
}

func hashesOf(v rawjson.Value) Hashes {
	o, err := v.Object()
	if err != nil || o.Len() == 0 {
		return nil
	}
	h := make(Hashes, o.Len())
	for name, v := range o.All() {
		if digest, ok := v.Text(); ok {
			h[name] = digest
		}
	}
	return h
}

// instant reads an ISO 8601 time; PEP 700 wants UTC, mirrors write an offset.
func instant(v rawjson.Value) time.Time {
	text, _ := v.Text()
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// JSON writes the page in its JSON form. name stands for a Name that the page does
// not have.
func (p *Project) JSON(name string) []byte {
	o := p.object
	if o == nil {
		o = &rawjson.Object{}
		version := p.APIVersion
		if version == "" {
			version = "1.0"
		}
		o.Set("meta", rawjson.Value(`{"api-version":`+string(rawjson.OfString(version))+`}`))
		if p.Name != "" {
			name = p.Name
		}
		o.Set("name", rawjson.OfString(name))
	}
	files := make([]rawjson.Value, len(p.Files))
	for i := range p.Files {
		files[i] = p.Files[i].json()
	}
	o.Set("files", rawjson.OfArray(files))
	return o.Value()
}

// json is the file's object as it came, or one made of the fields.
func (f *File) json() rawjson.Value {
	if f.object != nil {
		return f.object.Value()
	}
	o := &rawjson.Object{}
	o.Set("filename", rawjson.OfString(f.Name))
	o.Set("url", rawjson.OfString(f.URL))
	o.Set("hashes", f.Hashes.json())
	if f.RequiresPython != "" {
		o.Set("requires-python", rawjson.OfString(f.RequiresPython))
	}
	if f.Metadata.Available {
		v := rawjson.Value("true")
		if len(f.Metadata.Hashes) > 0 {
			v = f.Metadata.Hashes.json()
		}
		for _, key := range metadataKeys {
			o.Set(key, v)
		}
	}
	if f.GPGSig != nil {
		o.Set("gpg-sig", rawjson.Value(strconv.FormatBool(*f.GPGSig)))
	}
	if f.Provenance != "" {
		o.Set("provenance", rawjson.OfString(f.Provenance))
	}
	switch {
	case f.YankedReason != "":
		o.Set("yanked", rawjson.OfString(f.YankedReason))
	default:
		o.Set("yanked", rawjson.Value(strconv.FormatBool(f.Yanked)))
	}
	if f.Size >= 0 {
		o.Set("size", rawjson.Value(strconv.FormatInt(f.Size, 10)))
	}
	if !f.UploadTime.IsZero() {
		o.Set("upload-time", rawjson.OfString(f.UploadTime.UTC().Format("2006-01-02T15:04:05.000000Z")))
	}
	return o.Value()
}

func (h Hashes) json() rawjson.Value {
	o := &rawjson.Object{}
	for _, a := range h.sorted() {
		o.Set(a, rawjson.OfString(h[a]))
	}
	return o.Value()
}
