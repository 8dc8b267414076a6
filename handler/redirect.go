package handler

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// conditions are headers that a client sends to wherever it's redirected. There
// they'd be compared with another entity tag, and another date.
var conditions = [...]string{"If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since"}

// elsewhere returns a URL from which the client is to fetch the blob, or nothing
// if it's to be served from here: where nobody else has it, and where the client
// would get something else or nothing there.
func (r *request) elsewhere(b *storage.Blob) (string, error) {
	to, ok := storage.As[storage.Redirector](b.ReadSeekCloser)
	if !ok || !r.isPlain(b.Size) {
		return "", nil
	}
	location, err := to.Redirect(r.Context())
	if err != nil || location == "" || r.Header.Get("Authorization") == "" {
		return location, err
	}
	u, err := url.Parse(location)
	if err != nil || keepsCredentials(r.Host, u.Hostname()) {
		return "", err
	}
	return location, nil
}

// isPlain reports whether a GET is for all of the content, or for one part of it,
// under no conditions. Object stores know no lists of ranges.
func (r *request) isPlain(size int64) bool {
	for _, name := range conditions {
		if len(r.Header[name]) > 0 {
			return false
		}
	}
	wanted := r.Header["Range"]
	if len(wanted) == 0 {
		return true
	}
	ranges, err := parseRanges(wanted[0], size)
	return err == nil && len(ranges) == 1 && len(wanted) == 1 && !strings.Contains(wanted[0], ",")
}

// keepsCredentials reports whether a client that is sent from one host to another
// may take its Authorization along, as Go's does to the same host, whatever the
// port, and to one below it. A store that finds two ways to sign in refuses both.
func keepsCredentials(from, to string) bool {
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	from, to = strings.ToLower(strings.Trim(from, "[]")), strings.ToLower(to)
	return from == to || strings.HasSuffix(to, "."+from)
}

// redirect sends the client elsewhere. Nobody keeps the answer: it's good for a
// while, and for whoever has it.
func (r *request) redirect(w http.ResponseWriter, desc oci.Descriptor, location string) error {
	header := w.Header()
	header.Set("Docker-Content-Digest", desc.Digest.String())
	header.Set("Cache-Control", "no-store")
	header.Set("Location", location)
	header.Set("Content-Length", "0")
	r.respond(w, http.StatusTemporaryRedirect)
	return nil
}
