package indexes

import (
	"io"
	"net/url"
	"path"

	"larder/registry/crates"
)

const crateConfig = "config.json"

func wantsCrates(p string) bool {
	return path.Base(p) == crateConfig || crates.ConfigPath(p) != ""
}

// readCrates reads the index of a crate, whose files are where the config.json beside it
// says. cargo fetches that first, and it is remembered; after a restart it is in the
// cache.
func readCrates(r *Reader, in *Index, at place, yield Yield) error {
	if path.Base(at.path()) == crateConfig {
		config, err := io.ReadAll(io.LimitReader(in.Body, crates.MaxConfig))
		if err != nil {
			return err
		}
		download, err := crates.Download(config)
		if err != nil {
			return err
		}
		r.rememberDownload(in.URL, download)
		return nil
	}
	config, err := at.Parse(crates.ConfigPath(at.path()))
	if err != nil {
		return err
	}
	download, ok := r.download(config, in.Stored)
	if !ok {
		return nil
	}
	return crates.Versions(in.Body, func(v crates.Version) error {
		for _, u := range v.URLs(download) {
			if err := at.link(u, v.Checksum, yield); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *Reader) rememberDownload(config *url.URL, download string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.downloads == nil || len(r.downloads) >= maxDownloads {
		r.downloads = make(map[string]string)
	}
	r.downloads[config.String()] = download
}

func (r *Reader) download(config *url.URL, stored func(*url.URL) ([]byte, bool)) (string, bool) {
	r.mu.Lock()
	known, ok := r.downloads[config.String()]
	r.mu.Unlock()
	if ok || stored == nil {
		return known, ok
	}
	body, ok := stored(config)
	if !ok {
		return "", false
	}
	download, err := crates.Download(body)
	if err != nil {
		return "", false
	}
	r.rememberDownload(config, download)
	return download, true
}
