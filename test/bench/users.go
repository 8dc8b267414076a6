//go:build real

package bench

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// The names of systems whose users are in one file.
const (
	withUsers             = "caddy users"
	distributionWithUsers = "distribution users"
)

// Workloads of one request, by who asks.
const (
	headAnonymous = "HEAD of anybody"
	headPassword  = "HEAD with a password"
	headToken     = "HEAD with a token"
)

// guarded starts registries with a file of users. Anybody may pull from this one;
// distribution has no such thing, so what it does for anybody is what it does without users.
func guarded(t *testing.T) []*system {
	t.Helper()
	const password = "secret"
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, fmt.Appendf(nil, "alice:%s\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	caddy := oursWith(t, withUsers, place(t), fmt.Sprintf(`
		auth {
			provider oci_htpasswd %s
		}
		policy {
			allow pull bench/** to *
			allow pull push overwrite bench/** to alice
		}`, file))
	other := debianWith(t, distributionWithUsers, fmt.Sprintf("auth: {htpasswd: {realm: registry, path: %q}}\n", file))
	caddy.user, other.user = "alice:"+password, "alice:"+password
	return []*system{caddy, other}
}

// headAs is the HEAD of a manifest, as anybody and as somebody.
func headAs() []workload {
	return []workload{
		headBy(headAnonymous, func(*client) (string, error) { return "", nil }),
		headBy(headPassword, func(c *client) (string, error) { return c.password() }),
		headBy(headToken, func(c *client) (string, error) { return c.token() }),
	}
}

// headBy has credentials returned by sign once the image is there.
func headBy(name string, sign func(*client) (string, error)) workload {
	store := storeSmall("users")
	return one(name, func(c *client) (err error) {
		if c.sys.user != "" {
			c.auth = basic(c.sys.user)
		}
		if err = store(c); err != nil {
			return err
		}
		if c.auth, err = sign(c); err != nil {
			return err
		}
		// What's asked for the first time isn't measured.
		rep, err := c.do(http.MethodHead, latest(c), acceptMany, nil, nil)
		if err == nil && rep.status == http.StatusUnauthorized {
			err = errNotOffered
		}
		return err
	}, http.MethodHead, acceptMany, latest)
}

func basic(user string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
}

func (c *client) password() (string, error) {
	if c.sys.user == "" {
		return "", errNotOffered
	}
	return basic(c.sys.user), nil
}

// token gets one for the image that is there, from a registry that gives tokens itself.
func (c *client) token() (string, error) {
	if c.sys.user == "" {
		return "", errNotOffered
	}
	path := "/v2/token?service=" + c.host + "&scope=repository:" + stateOf[stored](c).repo + ":pull"
	var body bytes.Buffer
	rep, err := c.do(http.MethodGet, path, "", nil, &body)
	if err != nil {
		return "", err
	}
	var got struct{ Token string }
	if rep.status != http.StatusOK || json.Unmarshal(body.Bytes(), &got) != nil || got.Token == "" {
		return "", errNotOffered
	}
	return "Authorization: Bearer " + got.Token + "\r\n", nil
}

// users has the report say what it costs to be somebody, on each system: in time, and in
// the server's time alone, which others on the machine have less of a part in.
func (r *report) users() {
	for _, row := range r.rows {
		if row.workload != headPassword && row.workload != headToken {
			continue
		}
		of := row.system
		if of == distributionWithUsers {
			of = distribution
		}
		anybody, ok := r.rate(headAnonymous, of)
		if !ok {
			continue
		}
		cpu, _ := r.cpu(headAnonymous, of)
		what := fmt.Sprintf("%s, times that of anybody: %s", row.workload, row.system)
		r.facts[what] = anybody / row.rate()
		r.facts[what+", CPU"] = float64(median(row.samples, sample.cpuPerOp)) / float64(cpu)
	}
}
