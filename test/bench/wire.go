//go:build real

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// conn is an HTTP/1.1 client of one connection that does no more than it must:
// whatever it spends is taken from the server, which has the same two cores.
type conn struct {
	addr string
	host string // of the header Host
	auth string // the line of the header Authorization, with CRLF; empty if there's none

	c   net.Conn
	r   *bufio.Reader
	out []byte
	buf []byte // takes what is read and thrown away

	again int // how many more times the next request's body is sent, as a part of it
}

// reply is what an operation wants to know of an answer.
type reply struct {
	status   int
	location string
	length   int64 // of the body, which has been read
}

// timeLimit ends a request that a server doesn't answer.
const timeLimit = 2 * time.Minute

func (c *conn) close() {
	if c.c != nil {
		_ = c.c.Close() // all that was asked for has been read
		c.c = nil
	}
}

// do sends a request and reads the whole answer into keep, which may be nil.
// header is lines that each end with CRLF.
func (c *conn) do(method, path, header string, body []byte, keep *bytes.Buffer) (reply, error) {
	if c.c == nil {
		if err := c.dial(); err != nil {
			return reply{}, err
		}
	}
	rep, reusable, err := c.exchange(method, path, header, body, keep)
	if err != nil {
		err = fmt.Errorf("%s %s: %w", method, path, err)
	}
	if err != nil || !reusable {
		c.close()
	}
	return rep, err
}

// want is do for a request that has to be answered with this status.
func (c *conn) want(status int, method, path, header string, body []byte) (reply, error) {
	rep, err := c.do(method, path, header, body, nil)
	if err == nil && rep.status != status {
		err = fmt.Errorf("%s %s: status %d, want %d", method, path, rep.status, status)
	}
	return rep, err
}

func (c *conn) dial() error {
	nc, err := net.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	c.c, c.r = nc, bufio.NewReaderSize(nc, 64<<10)
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	return nil
}

func (c *conn) exchange(method, path, header string, body []byte, keep *bytes.Buffer) (rep reply, reusable bool, err error) {
	if err := c.c.SetDeadline(time.Now().Add(timeLimit)); err != nil {
		return rep, false, err
	}
	out := append(c.out[:0], method...)
	out = append(append(append(out, ' '), path...), " HTTP/1.1\r\nHost: "...)
	out = append(append(append(append(out, c.host...), "\r\n"...), c.auth...), header...)
	if body != nil || method != "GET" && method != "HEAD" {
		out = strconv.AppendInt(append(out, "Content-Length: "...), int64(len(body)*(1+c.again)), 10)
		out = append(out, "\r\n"...)
	}
	c.out = append(out, "\r\n"...)
	if err := c.send(body); err != nil {
		return rep, false, err
	}
	return c.receive(method, keep)
}

// send writes the request's head, and a small body with it.
func (c *conn) send(body []byte) error {
	if len(body) <= 64<<10 && c.again == 0 {
		c.out = append(c.out, body...)
		body = nil
	}
	_, err := c.c.Write(c.out)
	for n := 0; n <= c.again && err == nil && body != nil; n++ {
		_, err = c.c.Write(body)
	}
	return err
}

func (c *conn) receive(method string, keep *bytes.Buffer) (rep reply, reusable bool, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return rep, false, err
	}
	if len(line) < 12 {
		return rep, false, fmt.Errorf("status line %q", line)
	}
	if rep.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return rep, false, err
	}
	length, chunked, reusable, err := c.readHeader(&rep)
	if err != nil {
		return rep, false, err
	}
	if method == "HEAD" || rep.status == 204 || rep.status == 304 {
		return rep, reusable, nil
	}
	if chunked {
		rep.length, err = c.take(httputil.NewChunkedReader(c.r), keep)
		if err == nil {
			_, err = c.r.Discard(2) // the line end behind the last chunk
		}
		return rep, reusable, err
	}
	rep.length, err = c.take(io.LimitReader(c.r, length), keep)
	if err == nil && rep.length != length {
		err = io.ErrUnexpectedEOF
	}
	return rep, reusable, err
}

// readHeader reads the fields it knows, which servers in Go write in their
// canonical form.
func (c *conn) readHeader(rep *reply) (length int64, chunked, reusable bool, err error) {
	for reusable = true; ; {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, false, false, err
		}
		key, value, ok := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		if !ok {
			return length, chunked, reusable, nil
		}
		switch string(key) {
		case "Content-Length":
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return 0, false, false, err
			}
		case "Location":
			rep.location = string(value)
		case "Transfer-Encoding":
			chunked = true
		case "Connection":
			reusable = string(value) != "close"
		}
	}
}

func (c *conn) take(r io.Reader, keep *bytes.Buffer) (int64, error) {
	if keep != nil {
		return keep.ReadFrom(r)
	}
	var n int64
	for {
		m, err := r.Read(c.buf)
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// target makes a path of a Location, which may be a URL.
func target(location string) string {
	if _, rest, ok := strings.Cut(location, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return rest[i:]
		}
		return "/"
	}
	return location
}
