package mitm

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire2 speaks HTTP/2, one stream after the other.
type wire2 struct {
	t       *testing.T
	c       net.Conn
	framer  *http2.Framer
	client  bool
	stream  uint32 // the last
	block   bytes.Buffer
	encoder *hpack.Encoder
}

func newWire2(t *testing.T, c net.Conn, client bool) *wire2 {
	t.Helper()
	w := &wire2{t: t, c: c, framer: http2.NewFramer(c, c), client: client}
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.encoder = hpack.NewEncoder(&w.block)
	if client {
		_, _ = io.WriteString(c, http2.ClientPreface)
	} else if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return w
	}
	_ = w.framer.WriteSettings()
	return w
}

func (w *wire2) close() { _ = w.c.Close() }

func (w *wire2) send(m message, method string) {
	var pseudo [][2]string
	if method == "" {
		if w.stream++; w.stream%2 == 0 {
			w.stream++
		}
		verb, target, _ := strings.Cut(m.start, " ")
		pseudo = [][2]string{{":method", verb}, {":scheme", "https"}, {":authority", "a.test"}, {":path", target}}
	} else {
		pseudo = [][2]string{{":status", m.start}}
		for _, h := range m.hints {
			if !strings.Contains(h, ":") {
				w.headers([][2]string{{":status", h}}, hintFields(m.hints, h), false)
			}
		}
	}
	fields := m.fields
	ends := m.body == "" && len(m.trailers) == 0 && !m.stream
	if !m.stream && !m.ends && (m.body != "" || method != "" && m.hasLength(method)) {
		fields = append(fields[:len(fields):len(fields)], fmt.Sprintf("content-length: %d", len(m.body)))
	}
	w.headers(pseudo, fields, ends)
	if m.body != "" || m.stream {
		_ = w.framer.WriteData(w.stream, len(m.trailers) == 0, []byte(m.body))
	}
	if len(m.trailers) > 0 {
		w.headers(nil, m.trailers, true)
	}
}

func (w *wire2) headers(pseudo [][2]string, fields []string, ends bool) {
	w.block.Reset()
	for _, p := range pseudo {
		_ = w.encoder.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]})
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		_ = w.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	_ = w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: w.stream, BlockFragment: w.block.Bytes(), EndStream: ends, EndHeaders: true})
}

func (w *wire2) receive(string) (m message) {
	for {
		f, err := w.framer.ReadFrame()
		if err != nil {
			if m.start != "" || w.client {
				m.body += "and then it broke off: " + err.Error()
			}
			return m
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = w.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = w.framer.WritePing(true, f.Data)
			}
		case *http2.RSTStreamFrame:
			m.body += "and then it was reset: " + f.ErrCode.String()
			return m
		case *http2.MetaHeadersFrame:
			w.stream = f.StreamID
			w.meta(f, &m)
			if f.StreamEnded() {
				return m
			}
		case *http2.DataFrame:
			m.body += string(f.Data())
			if len(f.Data()) > 0 {
				_ = w.framer.WriteWindowUpdate(0, uint32(len(f.Data())))
			}
			if f.StreamEnded() {
				return m
			}
		}
	}
}

// meta takes a header, a hint or trailers.
func (w *wire2) meta(f *http2.MetaHeadersFrame, m *message) {
	var fields []string
	for _, h := range f.RegularFields() {
		fields = append(fields, field(h.Name, h.Value))
	}
	switch status := f.PseudoValue("status"); {
	case m.start != "":
		m.trailers = fields
	case strings.HasPrefix(status, "1"):
		m.hints = append(append(m.hints, status), fields...)
	case status != "":
		m.start, m.fields = status, fields
	default:
		m.start = f.PseudoValue("method") + " " + f.PseudoValue("path")
		m.fields = append(fields, "host: "+f.PseudoValue("authority"))
	}
}
