//go:build real

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Signed signs each request.
type Signed struct {
	Sign func(*http.Request)
	Next http.RoundTripper // nil is http.DefaultTransport
}

// RoundTrip implements http.RoundTripper.
func (s Signed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	s.Sign(r)
	if s.Next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return s.Next.RoundTrip(r)
}

// Basic signs with a name and a password.
func Basic(user, password string) Signed {
	return Signed{Sign: func(r *http.Request) { r.SetBasicAuth(user, password) }}
}

// Bearer signs with a token.
func Bearer(token string) Signed {
	return Signed{Sign: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }}
}

// As is the registry at a URL, for whom the requests are signed.
func As(url string, who Signed) *Registry {
	return &Registry{URL: url, Client: &http.Client{Transport: who}}
}

// NewAPIKey makes an API key that may do what wanted says, in JSON as docs/access.md has it.
func (r *Registry) NewAPIKey(ctx context.Context, wanted string) (id, key string, err error) {
	resp, err := r.Do(ctx, http.MethodPost, "/v2/_apikeys", strings.NewReader(wanted), "Content-Type", "application/json")
	if err != nil {
		return "", "", err
	}
	var made struct{ ID, Key string }
	err = errors.Join(json.NewDecoder(resp.Body).Decode(&made), resp.Body.Close())
	if err == nil && (made.ID == "" || made.Key == "") {
		err = fmt.Errorf("no API key was made: %s", resp.Status)
	}
	return made.ID, made.Key, err
}
