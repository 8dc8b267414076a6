package handler

import (
	"net/http"
	"strconv"
)

// Values of headers. http.Header.Set makes a slice for each value; these are
// shared, and nobody can append to them in place.
var (
	apiVersion = []string{"registry/2.0"}
	noSniffing = []string{"nosniff"}
	// A manifest has the Content-Type that somebody pushed it with, on what may be
	// a website's origin: it must never run there.
	runNothing = []string{"default-src 'none'; sandbox"}
	anyBytes   = []string{"bytes"}
)

// protect adds what isn't about the answer's content. A header of more than eight
// fields is a larger map, which is made, filled and copied for each request, and
// what is asked for most is kept below that: the version of the protocol is for
// clients that look for a registry, not for those that have found content.
func (r *request) protect(header http.Header) {
	if r.event.Status >= http.StatusBadRequest || r.kind != getBlob && r.kind != getManifest {
		header["Docker-Distribution-Api-Version"] = apiVersion
	}
	if _, hasBody := header["Content-Type"]; !hasBody || r.Method == http.MethodHead {
		return
	}
	header["X-Content-Type-Options"] = noSniffing
	if r.kind == getManifest {
		header["Content-Security-Policy"] = runNothing
	}
}

// values has room for what the usual response says in its header.
type values struct {
	list [6]string
	n    int
}

// set is header.Set for a key in its canonical form, without an allocation as
// long as there's room.
func (v *values) set(header http.Header, key, value string) {
	if v.n == len(v.list) {
		header.Set(key, value)
		return
	}
	v.list[v.n] = value
	header[key] = v.list[v.n : v.n+1 : v.n+1]
	v.n++
}

func (v *values) setInt(header http.Header, key string, n int64) {
	v.set(header, key, strconv.FormatInt(n, 10))
}
