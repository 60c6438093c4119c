package git

import (
	"bytes"
	"io"
)

// AdvertisementType is the media type of the answer to info/refs of git-upload-pack.
const AdvertisementType = "application/x-git-upload-pack-advertisement"

// Advertises reports whether a body of AdvertisementType begins as what a server shows
// to those who may read: its refs or, in version 2, what it can. One that refuses may do
// so by a line in a 200, as gitolite does. Little of the body is read.
func Advertises(body io.Reader) bool {
	p := packetReader{r: body}
	kind, line, err := p.next()
	if err == nil && kind == dataPacket && bytes.HasPrefix(line, []byte("# ")) {
		if string(line) != "# service=git-upload-pack" {
			return false
		}
		if kind, _, err = p.next(); err != nil || kind != flushPacket {
			return false
		}
		kind, line, err = p.next()
	}
	return err == nil && kind == dataPacket && !bytes.HasPrefix(line, []byte("ERR "))
}
