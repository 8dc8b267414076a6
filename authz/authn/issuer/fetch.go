package issuer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxDocument is the size of the largest answer that's read, in bytes.
const maxDocument = 1 << 20

// Metadata is what an issuer says of itself.
type Metadata struct {
	Issuer        string   `json:"issuer"`
	JWKS          string   `json:"jwks_uri"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	UserInfo      string   `json:"userinfo_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`

	// SaysIssuer is whether it names itself when it sends somebody back, RFC 9207.
	SaysIssuer bool `json:"authorization_response_iss_parameter_supported"`
}

// Metadata returns what the issuer says of itself. It is asked at most once an
// hour, and ten seconds after it couldn't say.
func (i *Issuer) Metadata(ctx context.Context) (Metadata, error) {
	s, err := i.metadata.Get(ctx)
	return s.Value, err
}

func (i *Issuer) fetchMetadata(ctx context.Context) (Metadata, error) {
	var m Metadata
	place := strings.TrimSuffix(i.options.URL, "/") + "/.well-known/openid-configuration"
	data, err := i.download(ctx, place)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s isn't JSON", place)
	}
	if m.Issuer != i.options.URL {
		return m, fmt.Errorf("%s is of the issuer %q, not %q", place, m.Issuer, i.options.URL)
	}
	for _, s := range []string{m.JWKS, m.Authorization, m.Token, m.UserInfo, m.EndSession} {
		if s == "" {
			continue
		}
		if err := i.options.checkURL(s); err != nil {
			return m, fmt.Errorf("%s: %w", place, err)
		}
	}
	return m, nil
}

func (i *Issuer) fetchKeys(ctx context.Context) ([]jose.JSONWebKey, error) {
	place := i.options.JWKSURL
	if place == "" {
		m, err := i.Metadata(ctx)
		if err != nil {
			return nil, err
		}
		if place = m.JWKS; place == "" {
			return nil, fmt.Errorf("%s doesn't say where its keys are", i.options.URL)
		}
	}
	data, err := i.download(ctx, place)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return keys, nil
}

// download returns what's at a URL. No answer is part of an error.
func (i *Issuer) download(ctx context.Context, place string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, http.NoBody)
	if err != nil {
		return nil, err
	}
	if err := i.authorize(req); err != nil {
		return nil, err
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", place, resp.Status)
	}
	return ReadAll(resp.Body)
}

// ReadAll reads an answer of up to 1 MiB.
func ReadAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = errors.New("an answer of more than 1 MiB")
	}
	return data, err
}

// authorize adds the token of the TokenFile, for hosts that the configuration names.
func (i *Issuer) authorize(req *http.Request) error {
	file := i.options.TokenFile
	if file == "" || !sameHost(req.URL, i.options.URL) && !sameHost(req.URL, i.options.JWKSURL) {
		return nil
	}
	token, err := os.ReadFile(file) //nolint:gosec // the file that the configuration names
	if err != nil {
		return fmt.Errorf("read the token for the issuer: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	return nil
}

func sameHost(u *url.URL, s string) bool {
	other, err := url.Parse(s)
	return err == nil && u.Scheme == other.Scheme && u.Host == other.Host
}

// newClient keeps no connection open: it's used once in minutes.
func newClient(o Options) (*http.Client, error) {
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DisableKeepAlives: true,
		ForceAttemptHTTP2: true,
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the issuer's CA: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", o.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: fetchTime, CheckRedirect: o.checkRedirect}, nil
}

func (o *Options) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > 3 {
		return errors.New("more than three redirects")
	}
	return o.checkURL(req.URL.String())
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
