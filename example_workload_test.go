//go:build !noworkload

package ociregistry

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
)

// runExample runs the Caddyfile of an example, but for the issuer whose tokens it
// accepts, and for where that one's certificate is.
func (w *web) runExample(t *testing.T, file string, by *issuertest.Issuer) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`issuer https://\S+`).ReplaceAllString(string(raw), "issuer "+by.URL)
	text = regexp.MustCompile(`\n\t+(ca|token_file) .*`).ReplaceAllString(text, "")
	text = strings.Replace(text, "registry.example.com {", "{\n\tadmin off\n\tpersist_config off\n}\n\nhttp://"+w.addr+" {", 1)
	config, err := adapt(t, strings.ReplaceAll(text, "/srv/registry", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	load(t, quiet(t, []byte(config)))
}

// wantUpload begins an upload with a token as the password.
func (w *web) wantUpload(t *testing.T, status int, repository, token string) {
	t.Helper()
	a, err := w.send(t.Context(), http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "", "Authorization", basic("whoever", token))
	if err != nil || a.StatusCode != status {
		t.Errorf("a push to %s: %v %s %s, want %d", repository, err, a.Status, a.body, status)
	}
}

// A job pushes what is its repository's, from the main branch and tags.
func TestExampleGitHubActions(t *testing.T) {
	w, by := newWeb(t), issuertest.New(t)
	w.runExample(t, "examples/github-actions/Caddyfile", by)
	token := func(repository, owner, ref string) string {
		return by.Sign(t, by.Claims("registry.example.com", map[string]any{
			"sub": "repo:" + repository + ":ref:" + ref, "repository": repository, "repository_owner_id": owner, "ref": ref,
		}))
	}
	w.wantUpload(t, http.StatusAccepted, "app", token("example/app", "1234567", "refs/heads/main"))
	w.wantUpload(t, http.StatusAccepted, "app", token("example/app", "1234567", "refs/tags/v1"))
	w.wantUpload(t, http.StatusForbidden, "app", token("example/app", "1234567", "refs/pull/1/merge"))
	w.wantUpload(t, http.StatusForbidden, "app", token("example/other", "1234567", "refs/heads/main"))
	w.wantUpload(t, http.StatusForbidden, "other", token("example/app", "1234567", "refs/heads/main"))
	w.wantUpload(t, http.StatusUnauthorized, "app", token("example/app", "7654321", "refs/heads/main"))
	w.wantUpload(t, http.StatusUnauthorized, "app", by.Sign(t, by.Claims("sts.amazonaws.com", map[string]any{
		"repository": "example/app", "repository_owner_id": "1234567", "ref": "refs/heads/main",
	})))
	workflow, err := os.ReadFile("examples/github-actions/push.yml")
	if err != nil || !strings.Contains(string(workflow), "&audience=registry.example.com") {
		t.Errorf("the workflow asks for a token for somebody else: %v", err)
	}
}

// A pod pulls what is its namespace's, with what the kubelet has from the program beside.
func TestExampleKubernetes(t *testing.T) {
	w, by := newWeb(t), issuertest.New(t)
	w.runExample(t, "examples/kubernetes/Caddyfile", by)
	password := func(namespace, name string) string {
		token := by.Sign(t, by.Claims("registry.example.com", map[string]any{
			"sub": "system:serviceaccount:" + namespace + ":" + name, "kubernetes.io": map[string]any{"namespace": namespace},
		}))
		request, err := json.Marshal(map[string]any{
			"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest",
			"image": "registry.example.com/shop/app", "serviceAccountToken": token, "serviceAccountAnnotations": nil,
		})
		if err != nil {
			t.Fatal(err)
		}
		program := exec.CommandContext(t.Context(), "sh", "examples/kubernetes/registry-token")
		program.Stdin = strings.NewReader(string(request))
		out, err := program.Output()
		var said struct {
			Auth map[string]struct{ Password string }
		}
		if err == nil {
			err = json.Unmarshal(out, &said)
		}
		if err != nil || said.Auth["registry.example.com"].Password != token {
			t.Fatalf("%v in %s", err, out)
		}
		return token
	}
	for _, c := range []struct {
		namespace, repository string
		want                  int
	}{
		{"shop", "shop/app", http.StatusNotFound}, // there's none, and one may know that
		{"shop", "base/os", http.StatusNotFound},
		{"shop", "build/app", http.StatusForbidden},
		{"bank", "shop/app", http.StatusForbidden},
	} {
		w.want(t, c.want, http.MethodGet, "/v2/"+c.repository+"/tags/list", "", "Authorization", basic("kubernetes", password(c.namespace, "default")))
	}
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/base/os/tags/list", "")
	w.wantUpload(t, http.StatusAccepted, "build/app", password("ci", "builder"))
	w.wantUpload(t, http.StatusForbidden, "build/app", password("ci", "default"))
	w.wantUpload(t, http.StatusForbidden, "shop/app", password("shop", "default"))
}
