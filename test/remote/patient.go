//go:build real

package remote

import (
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// Patient sends requests again that nobody has begun to serve.
//
// When Caddy reloads, it opens its port anew, and connections that wait at the
// old one, or are idle, are dropped: about two for each reload under load, at a
// site that only responds as well as at a registry. Every client has to send
// those requests again. It would hide what tests look for to do that
// with others, so bodies wait until the registry asks for them: a request that
// fails afterwards has failed.
type Patient struct {
	// Resent is how many requests were sent again.
	Resent atomic.Int64

	next http.Transport
}

// NewPatient returns a Patient without connections.
func NewPatient() *Patient {
	return &Patient{next: http.Transport{ExpectContinueTimeout: time.Minute}}
}

// NewSecurePatient is NewPatient for TLS.
func NewSecurePatient(config *tls.Config) *Patient {
	p := NewPatient()
	p.next.TLSClientConfig = config
	return p
}

// RoundTrip implements http.RoundTripper.
func (p *Patient) RoundTrip(req *http.Request) (*http.Response, error) {
	const attempts = 5
	for i := 1; ; i++ {
		var served atomic.Bool
		ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			Got100Continue:       func() { served.Store(true) },
			GotFirstResponseByte: func() { served.Store(true) },
		})
		try := req.Clone(ctx)
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			try.Body = body
		}
		if try.Body != nil {
			try.Header.Set("Expect", "100-continue")
		}
		resp, err := p.next.RoundTrip(try)
		if err == nil || served.Load() || i == attempts {
			return resp, err
		}
		p.Resent.Add(1)
	}
}

// CloseIdleConnections closes the connections that no request is using.
func (p *Patient) CloseIdleConnections() { p.next.CloseIdleConnections() }
