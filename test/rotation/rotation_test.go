//go:build real

package rotation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// A user is removed, one is added, and one has another password.
func TestHtpasswd(t *testing.T) {
	t.Parallel()
	for how, newFile := range map[string]func(*testing.T) *passwords{"renamed": renamed, "mounted": mounted} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := newFile(t)
			// Names are new in each round: a password that's wrong too often isn't looked at.
			is := func(n int, password string) []user {
				return []user{{"alice", "secret"}, {fmt.Sprint("bob", n), "secret"}, {fmt.Sprint("carol", n), password}}
			}
			f.write(is(0, "old")...)
			w := start(t, "provider oci_htpasswd "+f.path)
			w.goOn(w.caller("alice", remote.Basic("alice", "secret")), w.caller("alice by tokens", &likeDocker{world: w, user: "alice", secret: "secret"}))
			for n := range rounds() {
				gone, come, changed := fmt.Sprint("bob", n), fmt.Sprint("bob", n+1), fmt.Sprint("carol", n)
				w.change(func() { f.write(append(is(n+1, "old"), user{changed, "new"})...) },
					[]*caller{w.caller(come, remote.Basic(come, "secret")), w.caller(changed+" with the new password", remote.Basic(changed, "new"))},
					[]*caller{w.caller(gone, remote.Basic(gone, "secret")), w.byToken(gone, "secret"), w.caller(changed+" with the old password", remote.Basic(changed, "old"))})
			}
			w.stop()
		})
	}
}

// An account is disabled, and another one enabled.
func TestLDAP(t *testing.T) {
	t.Parallel()
	d := tool.NewSlapd(t)
	const people = "ou=people," + tool.SlapdBase
	d.Add(people, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {"people"}})
	add := func(name string) {
		d.Add("uid="+name+","+people, map[string][]string{
			"objectClass": {"inetOrgPerson"}, "cn": {name}, "sn": {name}, "uid": {name}, "userPassword": {"secret"},
		})
	}
	add("alice")
	disable := func(name string, how ...string) { d.Replace("uid="+name+","+people, "employeeType", how...) }
	w := start(t, fmt.Sprintf("provider oci_ldap %s {\nca %s\nbind %s %s\nbase %s\nfilter (!(employeeType=disabled))\n}",
		d.Secure, d.CA, tool.SlapdAdmin, tool.SlapdPassword, people))
	w.goOn(w.caller("alice", remote.Basic("alice", "secret")), w.caller("alice by tokens", &likeDocker{world: w, user: "alice", secret: "secret"}))
	for n := range rounds() { // with new names: a password that's wrong too often isn't looked at
		gone, come := fmt.Sprint("bob", n), fmt.Sprint("carol", n)
		add(gone)
		add(come)
		disable(come, "disabled")
		w.change(func() {
			disable(gone, "disabled")
			disable(come)
		}, []*caller{w.caller(come, remote.Basic(come, "secret"))}, []*caller{w.caller(gone, remote.Basic(gone, "secret")), w.byToken(gone, "secret")})
	}
	w.stop()
}

// A key is revoked, and then one's owner is gone.
func TestAPIKeys(t *testing.T) {
	t.Parallel()
	f := renamed(t)
	f.write(user{"alice", "secret"}, user{"bob", "secret"})
	w := start(t, "provider oci_htpasswd "+f.path+"\napi_keys")
	id, key := w.newKey("alice")
	_, bobs := w.newKey("bob")
	_, other := w.newKey("alice")
	w.goOn(w.caller("another key", remote.Basic("alice", other)), w.caller("another key by tokens", &likeDocker{world: w, user: "alice", secret: other}))
	revoke := func(id string) func() {
		return func() {
			r := remote.As(w.URL, remote.Basic("alice", "secret"))
			if resp, err := r.Do(w.Context(), http.MethodDelete, "/v2/_apikeys/"+id, nil); err != nil {
				w.Error(err)
			} else if err = resp.Body.Close(); err != nil {
				w.Error(err)
			}
		}
	}
	for range rounds() {
		w.change(revoke(id), nil, []*caller{w.caller("the key", remote.Basic("alice", key)), w.caller("the key as a bearer", remote.Bearer(key)), w.byToken("alice", key)})
		id, key = w.newKey("alice")
		w.want([]*caller{w.caller("a new key", remote.Basic("alice", key))}, true)
	}
	w.change(func() { f.write(user{"alice", "secret"}) }, nil,
		[]*caller{w.caller("bob's key", remote.Basic("bob", bobs)), w.caller("bob's key as a bearer", remote.Bearer(bobs)), w.byToken("bob", bobs)})
	w.stop()
}

// newKey creates an API key of a user.
func (w *world) newKey(user string) (id, key string) {
	w.Helper()
	const wanted = `{"scopes": [{"repositories": "**", "actions": ["pull", "push", "overwrite"]}]}`
	id, key, err := remote.As(w.URL, remote.Basic(user, "secret")).NewAPIKey(w.Context(), wanted)
	if err != nil {
		w.Fatal(err)
	}
	return id, key
}

// An issuer signs with another key, and the one before is withdrawn. There's a third,
// which stays.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	kept, next := issuertest.NewKey(t, jose.ES256), issuertest.NewKey(t, jose.ES256)
	by := issuertest.New(t)
	by.Use(by.Key(), kept)
	token := func(k issuertest.Key) string {
		return k.Sign(t, by.Claims("registry", map[string]any{"exp": time.Now().Add(time.Hour).Unix()}), nil)
	}
	w := start(t, fmt.Sprintf("provider oci_workload {\nissuer %s {\naudience registry\nuser claims.sub\n}\n}", by.URL))
	w.goOn(w.caller("a key that stays", remote.Bearer(token(kept))), w.caller("a key that stays, as a password", remote.Basic("whoever", token(kept))))
	for range rounds() {
		w.change(func() { by.Use(next, kept) },
			[]*caller{w.caller("the new key", remote.Bearer(token(next)))},
			[]*caller{w.caller("the old key", remote.Bearer(token(by.Key()))), w.caller("the old key, as a password", remote.Basic("whoever", token(by.Key())))})
		next = issuertest.NewKey(t, jose.ES256)
	}
	w.stop()
}

// The same, with keys in a file.
func TestWorkloadsOfAFile(t *testing.T) {
	t.Parallel()
	kept, old, next := issuertest.NewKey(t, jose.ES256), issuertest.NewKey(t, jose.ES256), issuertest.NewKey(t, jose.ES256)
	file := filepath.Join(t.TempDir(), "keys.json")
	publish := func(keys ...issuertest.Key) {
		var set jose.JSONWebKeySet
		for _, k := range keys {
			set.Keys = append(set.Keys, k.Public())
		}
		b, err := json.Marshal(set)
		if err != nil {
			t.Error(err)
		}
		replace(t, file, b)
	}
	token := func(k issuertest.Key) string {
		return k.Sign(t, map[string]any{"iss": "https://ci.example.com", "sub": "job", "aud": "registry", "exp": time.Now().Add(time.Hour).Unix()}, nil)
	}
	publish(old, kept)
	w := start(t, fmt.Sprintf("provider oci_workload {\nissuer https://ci.example.com {\nkeys_file %s\naudience registry\nuser claims.sub\n}\n}", file))
	w.goOn(w.caller("a key that stays", remote.Bearer(token(kept))))
	for range rounds() {
		w.change(func() { publish(next, kept) },
			[]*caller{w.caller("the new key", remote.Bearer(token(next)))}, []*caller{w.caller("the old key", remote.Bearer(token(old)))})
		old, next = next, issuertest.NewKey(t, jose.ES256)
	}
	w.stop()
}

// The keys that sign tokens are replaced, by who has the registry's admin endpoint and
// beside it. Who has a password gets another token.
func TestTokenKeys(t *testing.T) {
	t.Parallel()
	f := renamed(t)
	f.write(user{"alice", "secret"})
	w := start(t, "provider oci_htpasswd "+f.path)
	w.goOn(w.caller("alice by tokens", &likeDocker{world: w, user: "alice", secret: "secret"}), w.caller("alice", remote.Basic("alice", "secret")))
	for range rounds() {
		w.change(func() {
			if err := os.Remove(filepath.Join(w.root, "_state/token.keys")); err != nil {
				w.Error(err)
			}
		}, nil, []*caller{w.byToken("alice", "secret")})
		w.change(func() {
			resp, err := w.Admin.Do(w.Context(), http.MethodPost, "/oci_registry/registries/inline/tokens/replace-keys", nil)
			if err == nil {
				err = resp.Body.Close()
			}
			if err != nil {
				w.Error(err)
			}
		}, nil, []*caller{w.byToken("alice", "secret")})
	}
	w.stop()
}
