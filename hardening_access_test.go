package ociregistry

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// hidden runs a registry in which secret/app has an image that carol may not see, who
// may push to carol/… and pull there.
func hidden(t *testing.T, challenge string) (w *web, manifest string) {
	t.Helper()
	w = newWeb(t)
	site := withPolicy("allow pull public/** to *\nallow pull push overwrite delete carol/** to carol\nadmin pull push to root")
	w.run(t, "", strings.Replace(site, "challenge basic", "challenge "+challenge, 1))
	root := &web{&http.Client{Transport: sender{"", as("root"), w.Transport}}, w.addr}
	if err := root.push(t.Context(), "secret/app", "v1", secretLayer); err != nil {
		t.Fatal(err)
	}
	return w, root.want(t, http.StatusOK, http.MethodGet, "/v2/secret/app/manifests/v1", "").Header.Get("Docker-Content-Digest")
}

// secretLayer is what nobody else may read.
const secretLayer = "the secret layer"

// Who knows the digest asks for the content, in every way there is to ask.
func TestReadingWithoutRight(t *testing.T) {
	w, manifest := hidden(t, "basic")
	blob := digest.FromString(secretLayer).String()
	for _, path := range []string{
		"/v2/secret/app/blobs/" + blob, "/v2/secret/app/manifests/" + manifest, "/v2/secret/app/manifests/v1", "/v2/secret/app/referrers/" + manifest,
		"/v2/carol/app/blobs/" + blob, "/v2/carol/app/manifests/" + manifest, "/v2/public/app/blobs/" + blob,
	} {
		if strings.HasPrefix(path, "/v2/secret/app/") {
			w.want(t, http.StatusOK, http.MethodGet, path, "", "Authorization", as("root")) // so it's there
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			for _, header := range [][]string{nil, {"Range", "bytes=0-3"}, {"Range", "bytes=-4"}, {"If-None-Match", `"` + blob + `"`}, {"If-None-Match", "*"}} {
				for _, who := range []string{"", as("carol")} {
					a, err := w.send(t.Context(), method, path, "", append(header, "Authorization", who)...)
					if err != nil || a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusForbidden && a.StatusCode != http.StatusNotFound {
						t.Errorf("%s %s %v as %q: %v %s %s", method, path, header, who, err, a.Status, a.body)
					}
				}
			}
		}
	}
}

// A list has what can't be read otherwise.
func TestListsWithoutRight(t *testing.T) {
	w, manifest := hidden(t, "basic")
	for _, path := range []string{
		"/v2/_catalog", "/v2/_catalog?n=1000", "/v2/_catalog?last=secret/ap", "/v2/_catalog?n=1&last=secret", "/v2/_catalog?n=0",
		"/v2/secret/app/tags/list", "/v2/secret/app/tags/list?n=1", "/v2/secret/app/tags/list?last=v0", "/v2/carol/app/referrers/" + manifest,
	} {
		for _, who := range []string{"", as("carol")} {
			a, err := w.send(t.Context(), http.MethodGet, path, "", "Authorization", who)
			found := strings.Contains(a.body, "v1\"") || strings.Contains(a.body, manifest) || strings.Contains(a.body, `"secret/app"`) && a.StatusCode == http.StatusOK
			if err != nil || found || strings.Contains(a.Header.Get("Link"), "secret") {
				t.Errorf("%s as %q: %v %s %s %s", path, who, err, a.Status, a.Header.Get("Link"), a.body)
			}
		}
	}
	// Who may sees it all.
	if a := w.want(t, http.StatusOK, http.MethodGet, "/v2/_catalog", "", "Authorization", as("root")); !strings.Contains(a.body, "secret/app") {
		t.Errorf("root doesn't see it: %s", a.body)
	}
}

// Who may push somewhere has content mounted there that they can't read.
func TestMountWithoutRight(t *testing.T) {
	w, manifest := hidden(t, "basic")
	blob := digest.FromString(secretLayer).String()
	for _, query := range []string{
		"mount=" + blob + "&from=secret/app", "mount=" + blob, "from=secret/app&mount=" + blob + "&digest=" + blob,
		"mount=" + manifest + "&from=secret/app", "mount=" + blob + "&from=carol/app&from=secret/app", "mount=" + blob + "&from=carol/../secret/app",
		"mount=" + blob + "&from=secret%2Fapp", "mount=" + blob + "&from=" + url.QueryEscape("carol/app\x00secret/app"),
	} {
		a, err := w.send(t.Context(), http.MethodPost, "/v2/carol/app/blobs/uploads/?"+query, "", "Authorization", as("carol"))
		if err != nil || a.StatusCode == http.StatusCreated {
			t.Errorf("%s: %v %s", query, err, a.Status)
		}
	}
	w.want(t, http.StatusNotFound, http.MethodHead, "/v2/carol/app/blobs/"+blob, "", "Authorization", as("carol"))
	w.want(t, http.StatusCreated, http.MethodPost, "/v2/root/app/blobs/uploads/?mount="+blob+"&from=secret/app", "", "Authorization", as("root")) // who may
	// A manifest that names it, by who has never had it.
	m := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` +
		blob + `","size":16},"layers":[]}`
	a, err := w.send(t.Context(), http.MethodPut, "/v2/carol/app/manifests/x", m, "Authorization", as("carol"), "Content-Type", "application/vnd.oci.image.manifest.v1+json")
	if err != nil || a.StatusCode < 400 {
		t.Errorf("a manifest that names what is hidden: %v %s", err, a.Status)
	}
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/carol/app/blobs/"+blob, "", "Authorization", as("carol"))
}

// A token for one repository, or for less, is used for another one, or for more. What is
// asked for isn't what is granted.
func TestTokenOfAnotherRepository(t *testing.T) {
	w, _ := hidden(t, "bearer")
	blob := digest.FromString(secretLayer).String()
	for _, scope := range []string{
		"repository:carol/app:pull,push", "repository:secret/app:pull", "repository:secret/app:*", "repository:carol/app:pull repository:secret/app:pull,push",
		"repository:*:pull", "repository:**:*", "registry:catalog:*", "repository:carol/../secret/app:pull", "repository:secret/app:pull,push,delete,list", "",
	} {
		token := w.token(t, scope, "Authorization", as("carol"))
		for _, path := range []string{"/v2/secret/app/manifests/v1", "/v2/secret/app/tags/list", "/v2/secret/app/blobs/" + blob} {
			a, err := w.send(t.Context(), http.MethodGet, path, "", "Authorization", token)
			if err != nil || a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusForbidden {
				t.Errorf("%q: GET %s: %v %s", scope, path, err, a.Status)
			}
		}
	}
	pull := w.token(t, "repository:carol/app:pull", "Authorization", as("carol"))
	other := w.token(t, "repository:carol/other:pull,push", "Authorization", as("carol"))
	for name, token := range map[string]string{"to pull": pull, "for another": other} {
		a, err := w.send(t.Context(), http.MethodPost, "/v2/carol/app/blobs/uploads/", "", "Authorization", token)
		if err != nil || a.StatusCode != http.StatusUnauthorized {
			t.Errorf("a push with a token %s: %v %s", name, err, a.Status)
		}
	}
	token := w.token(t, "repository:carol/app:pull,push", "Authorization", as("carol"))
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/carol/app/blobs/uploads/", "", "Authorization", token)
}

// A client writes down whose address it has, and which host it has asked.
func TestForgedForwarding(t *testing.T) {
	w := newWeb(t)
	site := withPolicy("allow pull push ci/** to carol when client_ip 10.0.0.0/8\nallow pull public/** to *")
	w.run(t, "", strings.Replace(site, "challenge basic", "challenge bearer", 1))
	forged := []string{
		"X-Forwarded-For", "10.0.0.1", "X-Real-Ip", "10.0.0.1", "Client-Ip", "10.0.0.1", "True-Client-Ip", "10.0.0.1",
		"Cf-Connecting-Ip", "10.0.0.1", "Forwarded", "for=10.0.0.1;host=evil.example.com;proto=https",
		"X-Forwarded-Host", "evil.example.com", "X-Forwarded-Proto", "https",
	}
	w.want(t, http.StatusForbidden, http.MethodPost, "/v2/ci/app/blobs/uploads/", "", append(forged, "Authorization", as("carol"))...)
	// The password would be sent to where the answer says that tokens are had.
	w.challenged(t, http.MethodGet, "/v2/", forged...)
}

// What a client sends to sign in is as great as it likes: as much as a header may have,
// and more.
func TestFloodsOfCredentials(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys"))
	great, many := strings.Repeat("a", 8<<20), strings.Repeat("scope=repository:a:pull&", 100_000)
	post := func(path, body, contentType string) {
		t.Helper()
		a, err := w.send(t.Context(), http.MethodPost, path, body, "Authorization", alice, "Content-Type", contentType)
		// Who sends on is hung up on.
		if err == nil && (a.StatusCode != http.StatusRequestEntityTooLarge || len(a.body) > 4<<10) {
			t.Errorf("%.60s to %s: %s, %d bytes", body, path, a.Status, len(a.body))
		}
	}
	const form = "application/x-www-form-urlencoded"
	post("/v2/token", "grant_type=password&username=alice&password="+great, form)
	post("/v2/token", "grant_type=password&username=alice&password=secret&service=x&"+many, form)
	post(apiKeysPath, `{"label":"`+great+`"}`, "application/json")
	for _, n := range []int{20_000, 500_000} {
		for _, authorization := range []string{
			basic("alice", great[:n]), basic(great[:n], "secret"), basic("alice", "ork_"+great[:n]), "Bearer ork_" + great[:n],
			"Bearer eyJ" + great[:n] + ".e30.x", "Bearer " + great[:n], great[:n] + " x", "Basic " + strings.Repeat("=", n),
		} {
			a, err := w.send(t.Context(), http.MethodGet, "/v2/", "", "Authorization", authorization)
			if err != nil || a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusTooManyRequests && a.StatusCode != http.StatusRequestHeaderFieldsTooLarge ||
				len(a.body) > 4<<10 {
				t.Errorf("%.20s of %d bytes: %v %s, %d bytes", authorization, n, err, a.Status, len(a.body))
			}
		}
		a, err := w.send(t.Context(), http.MethodGet, "/v2/token?"+many[:n], "", "Authorization", alice)
		if err != nil || a.StatusCode >= http.StatusInternalServerError || len(a.body) > 4<<10 {
			t.Errorf("scopes of %d bytes: %v %s, %d bytes", n, err, a.Status, len(a.body))
		}
	}
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", alice)
}
