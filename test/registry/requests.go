//go:build real

package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Request is what the access log has of one.
type Request struct {
	Proto, Method, Host, URI string
	Header                   map[string][]string
	Status, Size             int

	Operation, Repository, Digest string // what the registry made of it
}

// Requests returns what was asked so far of a site that has 'log'. It asks for
// one thing more and waits for its line, which comes after all others.
func (s *Server) Requests() []Request {
	s.t.Helper()
	s.asked++
	last := fmt.Sprintf("/v2/?last=%d", s.asked)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	_ = s.Get(ctx, last) // what is answered doesn't matter
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		all := requests(s.Log())
		for i, r := range all {
			if r.URI == last {
				return all[:i]
			}
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("the access log has no line for %s", last)
		case <-again.C:
		}
	}
}

func requests(log string) []Request {
	var all []Request
	for line := range strings.Lines(log) {
		var entry struct {
			Logger  string
			Request struct {
				Proto, Method, Host, URI string
				Headers                  map[string][]string
			}
			Status, Size int
			OCI          struct{ Operation, Repository, Digest string }
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || !strings.HasPrefix(entry.Logger, "http.log.access") {
			continue
		}
		r, oci := entry.Request, entry.OCI
		all = append(all, Request{r.Proto, r.Method, r.Host, r.URI, r.Headers, entry.Status, entry.Size, oci.Operation, oci.Repository, oci.Digest})
	}
	return all
}
