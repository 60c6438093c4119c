package cache

import (
	"crypto/rand"
	"io"
)

// multipart answers several ranges of a body of size bytes as multipart/byteranges (RFC
// 9110, section 14.6). write sends the bytes of one.
func (p *reply) multipart(size int64, spans []span, write func(span) error) error {
	boundary := rand.Text()
	heads := make([]string, len(spans))
	end := "\r\n--" + boundary + "--\r\n"
	length := int64(len(end))
	for i, part := range spans {
		heads[i] = "\r\n--" + boundary + "\r\n"
		if i == 0 {
			heads[i] = heads[i][2:]
		}
		if t := p.fields.Get("Content-Type"); t != "" {
			heads[i] += "Content-Type: " + t + "\r\n"
		}
		heads[i] += "Content-Range: " + part.contentRange(size) + "\r\n\r\n"
		length += int64(len(heads[i])) + part.n
	}
	p.own["Content-Range"] = nil // a stray one of the whole
	p.own["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	p.setLength(length)
	for i, part := range spans {
		if _, err := io.WriteString(p, heads[i]); err != nil {
			return err
		}
		if err := write(part); err != nil {
			return err
		}
	}
	_, err := io.WriteString(p, end)
	return err
}
