package handler_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// asking is a request, and what is asked for it.
type asking struct {
	method, target string
	want           []authz.Access
}

func askings(t *testing.T) []asking {
	t.Helper()
	repo, d := mustName("a/b"), layerDigest
	tag := func(s string) oci.Reference {
		ref, err := oci.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	one := func(a authz.Action) []authz.Access { return []authz.Access{{Action: a, Repository: repo}} }
	return []asking{
		{"GET", "/v2/", []authz.Access{{Action: authz.List}}},
		{"GET", "/v2/_catalog", []authz.Access{{Action: authz.List}}},
		{"GET", "/v2/_oci/ext/discover", []authz.Access{{Action: authz.List}}},
		{"GET", blobPath("a/b", d), one(authz.Pull)},
		{"HEAD", blobPath("a/b", d), one(authz.Pull)},
		{"DELETE", blobPath("a/b", d), one(authz.Delete)},
		{"GET", "/v2/a/b/tags/list", one(authz.Pull)},
		{"GET", "/v2/a/b/referrers/" + d.String(), one(authz.Pull)},
		{"GET", manifestPath("a/b", "v1"), []authz.Access{{Action: authz.Pull, Repository: repo, Reference: tag("v1")}}},
		{"PUT", manifestPath("a/b", "v1"), []authz.Access{{Action: authz.Push, Repository: repo, Reference: tag("v1")}}},
		{"PUT", manifestPath("a/b", d.String()) + "?tag=v1&tag=v2", []authz.Access{
			{Action: authz.Push, Repository: repo, Reference: oci.DigestRef(d)},
			{Action: authz.Push, Repository: repo, Reference: tag("v1")},
			{Action: authz.Push, Repository: repo, Reference: tag("v2")},
		}},
		{"DELETE", manifestPath("a/b", "v1"), []authz.Access{{Action: authz.Delete, Repository: repo, Reference: tag("v1")}}},
		{"POST", uploads, one(authz.Push)},
		{"POST", uploads + "?digest=" + d.String(), one(authz.Push)},
		{"POST", uploads + "?mount=" + d.String(), one(authz.Push)},
		{"POST", uploads + "?from=c&mount=" + d.String(), append(one(authz.Push), authz.Access{Action: authz.Pull, Repository: mustName("c")})},
		{"GET", uploads + "x", one(authz.Push)},
		{"PATCH", uploads + "x", one(authz.Push)},
		{"PUT", uploads + "x?digest=" + d.String(), one(authz.Push)},
		{"DELETE", uploads + "x", one(authz.Push)},
	}
}

// TestQuestions: each endpoint asks once, for exactly what it needs.
func TestQuestions(t *testing.T) {
	t.Parallel()
	for _, tc := range askings(t) {
		t.Run(tc.method+" "+tc.target, func(t *testing.T) {
			t.Parallel()
			var asked []authz.Question
			c := newClient(t, handler.Options{
				Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) {
					asked = append(asked, q)
					return authz.Answer{}, nil
				}),
				Identity: jane,
			})
			c.send(tc.method, tc.target, "")
			if len(asked) == 0 {
				t.Fatal("not asked")
			}
			want := authz.Question{Who: authz.Identity{ID: "jane"}, Client: netip.MustParseAddr("192.0.2.1"), Want: tc.want}
			if !reflect.DeepEqual(asked[0], want) {
				t.Fatalf("asked %+v, want %+v", asked[0], want)
			}
			if len(asked) > 1 && !strings.Contains(tc.target, "mount=") { // which filters
				t.Fatalf("asked %d times", len(asked))
			}
		})
	}
}

// TestRefusal: what isn't allowed changes nothing, and looks the same whether
// it exists or not.
func TestRefusal(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{Authorizer: onlyThere("mine")})
	c.pushImage("mine", "")
	for _, x := range []exchange{
		{method: "GET", target: manifestPath("yours", "v1")},
		{method: "HEAD", target: manifestPath("yours", "v1")},
		{method: "PUT", target: manifestPath("yours", "v1"), body: imageOf()},
		{method: "DELETE", target: manifestPath("yours", "v1")},
		{method: "GET", target: blobPath("yours", layerDigest)},
		{method: "POST", target: "/v2/yours/blobs/uploads/"},
		{method: "GET", target: "/v2/yours/tags/list"},
		{method: "GET", target: "/v2/yours/referrers/" + layerDigest.String()},
	} {
		x.status, x.code = 403, oneIf(x.method != "HEAD", oci.Denied)
		c.run(x)
	}
	c.run(exchange{method: "GET", target: "/v2/_catalog", status: 200, is: `{"repositories":["mine"]}`})
}

// TestMountIsNotAnOracle: whoever may push somewhere learns nothing of what
// lies in repositories that they may not read.
func TestMountIsNotAnOracle(t *testing.T) {
	t.Parallel()
	rights := onlyThere("secret", "mine", "shared")
	c := newClient(t, handler.Options{Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) { return rights(q) })})
	c.pushBlob("secret", "known only there")
	c.pushBlob("shared", layer)
	rights = onlyThere("mine", "shared")
	hidden := digest.FromString("known only there").String()
	into := "/v2/mine/blobs/uploads/?mount="
	for _, tc := range []struct {
		name, target string
		status       int
	}{
		{"from where it is, unreadable", into + hidden + "&from=secret", 202},
		{"from where it isn't, unreadable", into + missing.String() + "&from=secret", 202},
		{"from what doesn't exist", into + hidden + "&from=none", 202},
		{"from a readable one that hasn't got it", into + hidden + "&from=shared", 202},
		{"from anywhere, where only unreadable ones have it", into + hidden, 202},
		{"from a readable one", into + layerDigest.String() + "&from=shared", 201},
		{"from anywhere", into + layerDigest.String(), 201},
		{"to where pushing isn't allowed", "/v2/secret/blobs/uploads/?mount=" + layerDigest.String() + "&from=shared", 403},
	} {
		got := c.send("POST", tc.target, "")
		if got.status != tc.status {
			t.Errorf("%s: status %d, want %d: %s", tc.name, got.status, tc.status, got.body)
		}
	}
	c.run(exchange{method: "GET", target: blobPath("mine", digest.FromString("known only there")), status: 404, code: oci.BlobUnknown})
}

// TestMountHashesAsPromised: the session that a mount falls back to takes the
// digest that was to be mounted.
func TestMountHashesAsPromised(t *testing.T) {
	t.Parallel()
	var opts storage.UploadOptions
	c := newClient(t, handler.Options{
		Identity: jane,
		Store: newHookedStore(t, func(r storage.Repository) storage.Repository {
			return uploading{r, func(o storage.UploadOptions) { opts = o }, func(u storage.Upload) storage.Upload { return u }}
		}),
	})
	for query, want := range map[string]digest.Algorithm{
		"?from=c&mount=" + sha512D.String():     digest.SHA512,
		"?from=c&mount=" + layerDigest.String(): digest.SHA256,
		"?digest-algorithm=sha512":              digest.SHA512,
		"":                                      "", // storage's default
	} {
		c.run(exchange{method: "POST", target: uploads + query, status: 202})
		if opts.Algorithm != want || opts.By != "jane" {
			t.Errorf("%s: %+v, want %s by jane", query, opts, want)
		}
	}
}

// TestMountSources: a mount without a source finds the blob in the target
// itself first, and looks no further than it says.
func TestMountSources(t *testing.T) {
	t.Parallel()
	var filtered []string
	c := newClient(t, handler.Options{Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) {
		if q.Want[0].Action == authz.Pull {
			filtered = append(filtered, q.Want[0].Repository.String())
		}
		return authz.Answer{}, nil
	})})
	c.pushBlob("z", layer)
	for i := range 1200 {
		c.pushBlob("a/"+digest.FromString(string(rune('0'+i))).Encoded(), "x")
	}
	mount := exchange{method: "POST", target: "/v2/z/blobs/uploads/?mount=" + layerDigest.String(), status: 201}
	c.run(mount)
	if len(filtered) != 1 || filtered[0] != "z" {
		t.Fatalf("looked at %d repositories, %s first", len(filtered), filtered[0])
	}
	filtered = nil
	mount.target, mount.status = "/v2/a/"+digest.FromString("0").Encoded()+"/blobs/uploads/?mount="+missing.String(), 202
	c.run(mount)
	if len(filtered) != 1000 {
		t.Fatalf("looked at %d repositories", len(filtered))
	}
	if twice := slices.Sorted(slices.Values(filtered)); len(slices.Compact(twice)) != 1000 {
		t.Fatal("looked at one twice")
	}
}

// TestOverwrite: what the Authorizer says of overwriting is applied to tags, and
// only to those that would move.
func TestOverwrite(t *testing.T) {
	t.Parallel()
	may := false
	c := newClient(t, handler.Options{Authorizer: authorizer(func(authz.Question) (authz.Answer, error) {
		return authz.Answer{Overwrite: may}, nil
	})})
	raw, _ := c.pushImage("a/b", "one")
	c.pushManifest("a/b", "v1", img, raw) // the same again
	other := imageOf(`"annotations":{"note":"two"}`)
	put := exchange{method: "PUT", target: manifestPath("a/b", "v1"), body: other, header: ctImage, status: 403, code: oci.Denied}
	c.run(put)
	c.run(exchange{method: "GET", target: manifestPath("a/b", "v1"), status: 200, is: raw})
	may, put.status, put.code = true, 201, ""
	c.run(put)
	c.run(exchange{method: "GET", target: manifestPath("a/b", "v1"), status: 200, is: other})
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	unauthorized := authorizer(func(authz.Question) (authz.Answer, error) {
		return authz.Answer{}, oci.Errorf(oci.Unauthorized, "sign in")
	})
	c := newClient(t, handler.Options{Authorizer: unauthorized, Challenge: func(r *http.Request, _ authz.Question) string {
		return `Basic realm="` + r.URL.Path + `"`
	}})
	c.run(exchange{method: "GET", target: "/v2/", status: 401, code: oci.Unauthorized, want: []string{"Www-Authenticate", `Basic realm="/v2/"`}})
	c.run(exchange{method: "HEAD", target: manifestPath("a", "v1"), status: 401, want: []string{"Www-Authenticate", "*"}})

	// Without a way to sign in it would be no 401.
	c = newClient(t, handler.Options{Authorizer: unauthorized})
	got := c.run(exchange{method: "GET", target: "/v2/", status: 403, code: oci.Denied, want: []string{"Www-Authenticate", ""}})
	if !strings.Contains(got.body, "sign in") {
		t.Fatalf("the reason is lost: %s", got.body)
	}
}

// TestChallengeKnowsTheQuestion: a challenge can say what a token has to be for.
func TestChallengeKnowsTheQuestion(t *testing.T) {
	t.Parallel()
	for _, identity := range []func(*http.Request) (authz.Identity, error){
		func(*http.Request) (authz.Identity, error) { return authz.Identity{}, nil },
		func(*http.Request) (authz.Identity, error) {
			return authz.Identity{ID: "half known"}, oci.Errorf(oci.Unauthorized, "wrong credentials")
		},
	} {
		c := newClient(t, handler.Options{
			Identity: identity,
			Authorizer: authorizer(func(authz.Question) (authz.Answer, error) {
				return authz.Answer{}, oci.Errorf(oci.Unauthorized, "sign in")
			}),
			Challenge: func(_ *http.Request, q authz.Question) string {
				return fmt.Sprintf("Test who=%q client=%s want=%s:%s", q.Who.ID, q.Client, q.Want[0].Repository, q.Want[0].Action)
			},
		})
		c.run(exchange{
			method: "PUT", target: manifestPath("a/b", "v1"), status: 401, code: oci.Unauthorized,
			want: []string{"Www-Authenticate", `Test who="" client=192.0.2.1 want=a/b:push`},
		})
	}
}

// TestIdentityErrors: nobody becomes anonymous by credentials that are wrong, or
// that nobody could look into.
func TestIdentityErrors(t *testing.T) {
	t.Parallel()
	limited := oci.Errorf(oci.TooManyRequests, "too many failed logins")
	if e, ok := errors.AsType[*oci.Error](limited); ok {
		e.RetryAfter = 7
	}
	for _, tc := range []struct {
		name   string
		err    error
		status int
		code   oci.Code
		want   []string
	}{
		{"refused", errors.Join(oci.Errorf(oci.Unauthorized, "wrong credentials"), errors.New("secret: no such user")), 401, oci.Unauthorized, []string{"Www-Authenticate", "Test"}},
		{"limited", limited, 429, oci.TooManyRequests, []string{"Retry-After", "7"}},
		{"unknown", errors.New("secret: the directory is away"), 503, "", []string{"Retry-After", "10"}},
		{"unknown, though something was missing", fmt.Errorf("secret: %w", oci.NameUnknown), 503, "", []string{"Retry-After", "10"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var event *handler.Event
			c := newClient(t, handler.Options{
				Identity: func(*http.Request) (authz.Identity, error) { return authz.Identity{ID: "half known"}, tc.err },
				Authorizer: authorizer(func(authz.Question) (authz.Answer, error) {
					t.Error("the Authorizer is asked about nobody")
					return authz.Answer{}, nil
				}),
				Challenge: func(*http.Request, authz.Question) string { return "Test" },
				Observe:   func(_ *http.Request, e *handler.Event) { event = e },
			})
			for _, target := range []string{"/v2/", manifestPath("a", "v1"), "/v2/_catalog"} {
				got := c.run(exchange{method: "GET", target: target, status: tc.status, code: tc.code, want: tc.want})
				if strings.Contains(got.body, "secret") {
					t.Errorf("the client is told %s", got.body)
				}
				if event.Who.ID != "" || !errors.Is(event.Err, tc.err) {
					t.Errorf("the event has %+v", event)
				}
			}
		})
	}
}

// TestScopes: a token that isn't for this is asked to be replaced; a key that isn't
// for it is refused.
func TestScopes(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{
		Authorizer: authz.Authenticated{Else: authz.AnonymousNone},
		Challenge:  func(*http.Request, authz.Question) string { return "Test" },
		Identity: func(*http.Request) (authz.Identity, error) {
			return authz.Identity{ID: "jane", Limit: []authz.Scope{{Repositories: "a/*", Actions: []authz.Action{authz.Pull}}}}, nil
		},
	})
	for authorization, status := range map[string]int{"Bearer x": 401, "bearer x": 401, "Basic x": 403, "": 403} {
		code := oci.Denied
		if status == 401 {
			code = oci.Unauthorized
		}
		got := c.run(exchange{method: "PUT", target: manifestPath("a/b", "v1"), header: []string{"Authorization", authorization}, status: status, code: code})
		if !strings.Contains(got.body, "scopes") {
			t.Errorf("%q: %s", authorization, got.body)
		}
		c.run(exchange{method: "GET", target: "/v2/b/tags/list", header: []string{"Authorization", authorization}, status: status, code: code})
		c.run(exchange{method: "GET", target: "/v2/a/b/tags/list", header: []string{"Authorization", authorization}, status: 404, code: oci.NameUnknown})
	}
}

// TestChallengeFirst: a client that sends nothing is asked at GET /v2/ and nowhere
// else; one that has a token for nobody isn't asked again.
func TestChallengeFirst(t *testing.T) {
	t.Parallel()
	c := newClient(t, handler.Options{
		ChallengeFirst: true,
		Challenge:      func(*http.Request, authz.Question) string { return "Test" },
		Identity: func(r *http.Request) (authz.Identity, error) {
			if r.Header.Get("Authorization") == "jane" {
				return authz.Identity{ID: "jane"}, nil
			}
			return authz.Identity{}, nil
		},
	})
	for _, target := range []string{"/v2/", "/v2"} {
		c.run(exchange{method: "GET", target: target, status: 401, code: oci.Unauthorized, want: []string{"Www-Authenticate", "Test"}})
		c.run(exchange{method: "HEAD", target: target, status: 401, want: []string{"Www-Authenticate", "Test"}})
		c.run(exchange{method: "GET", target: target, header: []string{"Authorization", "token for nobody"}, status: 200})
	}
	c.run(exchange{method: "GET", target: "/v2/_catalog", status: 200})
	c.run(exchange{method: "GET", target: manifestPath("a", "v1"), status: 404, code: oci.NameUnknown})
}

// TestDefaults: without an Authorizer everyone may pull and nobody may push.
func TestDefaults(t *testing.T) {
	t.Parallel()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	c := &client{TB: t, h: handler.New(handler.Options{Store: store})}
	c.run(exchange{method: "GET", target: "/v2/", status: 200})
	c.run(exchange{method: "GET", target: manifestPath("a", "v1"), status: 404, code: oci.NameUnknown})
	c.run(exchange{method: "POST", target: uploads, status: 403, code: oci.Denied})
	c.run(exchange{method: "DELETE", target: manifestPath("a", "v1"), status: 403, code: oci.Denied})
}
