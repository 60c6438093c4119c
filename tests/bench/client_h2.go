package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2client is one HTTP/2 connection driven by one goroutine, for the same reason
// that client is not net/http's.
type h2client struct {
	*client
	out     *bufio.Writer
	framer  *http2.Framer
	encoder *hpack.Encoder
	header  bytes.Buffer
	decoder *hpack.Decoder
	status  string
	next    uint32
	streams map[uint32]*h2stream
	used    int64 // of the connection's window
}

type h2stream struct {
	start time.Time
	bytes int64
}

// h2window is what the server may send without being allowed more.
const h2window = 1 << 30

func (t *target) dialH2(ctx context.Context) (*h2client, error) {
	base, err := t.dial(ctx, "h2")
	if err != nil {
		return nil, err
	}
	if p := base.tls.ConnectionState().NegotiatedProtocol; p != "h2" {
		base.close()
		return nil, fmt.Errorf("the server speaks %q, not h2", p)
	}
	c := &h2client{client: base, out: bufio.NewWriter(base.tls), next: 1, streams: map[uint32]*h2stream{}}
	c.framer = http2.NewFramer(c.out, bufio.NewReaderSize(base.tls, 64<<10))
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.header)
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			c.status = f.Value
		}
	})
	_, err = c.out.WriteString(http2.ClientPreface)
	if err == nil {
		err = c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2window})
	}
	if err == nil {
		err = c.framer.WriteWindowUpdate(0, h2window)
	}
	return c, err
}

// request opens a stream for path.
func (c *h2client) request(path string) error {
	c.header.Reset()
	for _, f := range [][2]string{
		{":method", "GET"},
		{":scheme", "https"},
		{":authority", c.target.host()},
		{":path", path},
		{"user-agent", "larder-bench"},
		{"accept-encoding", "identity"},
		{"accept", "*/*"},
	} {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	c.streams[c.next] = &h2stream{start: time.Now()}
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.next, BlockFragment: c.header.Bytes(), EndStream: true, EndHeaders: true,
	})
	c.next += 2
	return err
}

// load keeps width streams open for path until end, and then waits for those that
// are.
func (c *h2client) load(path string, width int, end time.Time, s *sample) error {
	if err := c.raw.SetDeadline(end.Add(clientTimeout)); err != nil {
		return err
	}
	for range width {
		if err := c.request(path); err != nil {
			return err
		}
	}
	for len(c.streams) > 0 {
		if err := c.out.Flush(); err != nil {
			return err
		}
		f, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		done, err := c.frame(f)
		if err != nil {
			return err
		}
		if done == nil {
			continue
		}
		s.ops++
		s.bytes += done.bytes
		s.latency = append(s.latency, time.Since(done.start))
		if time.Now().Before(end) {
			if err := c.request(path); err != nil {
				return err
			}
		}
	}
	return c.out.Flush()
}

// frame acts on one frame and returns the stream that it ended.
func (c *h2client) frame(f http2.Frame) (*h2stream, error) {
	s := c.streams[f.Header().StreamID]
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return nil, c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return nil, c.framer.WritePing(true, f.Data)
		}
	case *http2.HeadersFrame:
		if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
			return nil, err
		}
		if c.status != "200" || !f.HeadersEnded() {
			return nil, fmt.Errorf("response with status %s, headers ended: %v", c.status, f.HeadersEnded())
		}
	case *http2.DataFrame:
		if s == nil {
			return nil, fmt.Errorf("data on stream %d, which is not open", f.StreamID)
		}
		s.bytes += int64(len(f.Data()))
		if c.used += int64(f.Length); c.used >= h2window/2 {
			if err := c.framer.WriteWindowUpdate(0, uint32(c.used)); err != nil {
				return nil, err
			}
			c.used = 0
		}
		if f.StreamEnded() {
			delete(c.streams, f.StreamID)
			return s, nil
		}
	case *http2.RSTStreamFrame:
		return nil, fmt.Errorf("stream reset: %v", f.ErrCode)
	case *http2.GoAwayFrame:
		return nil, fmt.Errorf("the server goes away: %v: %w", f.ErrCode, net.ErrClosed)
	}
	return nil, nil
}
