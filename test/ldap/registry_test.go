//go:build real

package ldap_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
)

const ofADirectory = `{
	admin ADMIN
}
http://HOST {
	oci_registry {
		root %q
		auth {
			provider oci_ldap %s {
				ca %q
				bind %s {file.%s}
				base %s
				groups {
					filter (member={dn})
					base %s
					name cn
					depth 2
				}
			}
		}
		policy {
			allow pull ** to authenticated
			allow pull push infra/** to "group:Infra,more"
			allow pull push all/** to group:everything
		}
	}
}`

// TestARegistryOfADirectory has users of a directory use a registry: their groups say
// what they may do, what changes in the directory counts soon, and while it's away
// nobody is told that their password is wrong.
func TestARegistryOfADirectory(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	alice := d.user("alice", `cn=Smith\, Alice,`+people)
	d.user("bob", uid("bob"))
	infra := d.group("Infra,more", alice)
	d.group("everything", infra)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(*d.secret.Load()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := registry.Config(t, fmt.Sprintf(ofADirectory, t.TempDir(), d.Secure, d.CA, service, password, people, groups))

	push := func(repository, user, password string) int {
		t.Helper()
		return pushTo(t, srv, repository, user, password)
	}
	for _, c := range []struct {
		repository, user, password string
		want                       int
	}{
		{"infra/app", "alice", "password of alice", http.StatusAccepted},
		{"all/app", "ALICE", "password of alice", http.StatusAccepted},
		{"infra/app", "bob", "password of bob", http.StatusForbidden},
		{"other/app", "alice", "password of alice", http.StatusForbidden},
		{"infra/app", "alice", "wrong", http.StatusUnauthorized},
		{"infra/app", "alice", "", http.StatusUnauthorized},
		{"infra/app", "*", "password of alice", http.StatusUnauthorized},
	} {
		if got := push(c.repository, c.user, c.password); got != c.want {
			t.Errorf("%s with %q pushes to %s: %d, want %d", c.user, c.password, c.repository, got, c.want)
		}
	}
	asAlice := func() int { return push("infra/app", "alice", "password of alice") }
	d.Replace(infra, "member", uid("bob"))
	soon(t, "alice left the group", http.StatusForbidden, asAlice)
	soon(t, "bob joined it", http.StatusAccepted, func() int { return push("infra/app", "bob", "password of bob") })
	d.Replace(infra, "member", alice)
	soon(t, "alice is back", http.StatusAccepted, asAlice)
	d.Kill()
	soon(t, "the directory is away", http.StatusServiceUnavailable, asAlice)
	d.Restart()
	soon(t, "it's back", http.StatusAccepted, asAlice)
	d.Remove(alice)
	soon(t, "alice is gone", http.StatusUnauthorized, asAlice)
	if log := srv.Log(); strings.Contains(log, "password of") || strings.Contains(log, *d.secret.Load()) {
		t.Error("the log has a password in it")
	}
}

// pushTo is the status of an upload's start.
func pushTo(t *testing.T, srv *registry.Server, repository, user, password string) int {
	t.Helper()
	credentials := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	resp, err := srv.Do(t.Context(), http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil, "Authorization", "Basic "+credentials)
	if err != nil {
		return remote.Status(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// soon waits until ask returns what's wanted.
func soon(t *testing.T, what string, want int, ask func() int) {
	t.Helper()
	got := 0
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if got = ask(); got == want {
			return
		}
	}
	t.Errorf("%s: %d, want %d", what, got, want)
}
