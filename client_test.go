package ociregistry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

// command runs one of the sub-commands and returns what it printed.
func command(ctx context.Context, cmd *cobra.Command, args ...string) (string, error) {
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceErrors = true
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func TestListAndRemove(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", inMemory)
	url := "http://" + w.addr
	for _, repository := range []string{"b", "a/nested"} {
		for _, tag := range []string{"v2", "v1"} {
			if err := w.push(t.Context(), repository, tag, "layer of "+tag); err != nil {
				t.Fatal(err)
			}
		}
	}
	manifest := w.want(t, http.StatusOK, http.MethodGet, "/v2/b/manifests/v2", "").body
	for _, step := range []struct {
		cmd  *cobra.Command
		args []string
		out  string
		err  string
	}{
		{cmd: listCommand(), out: "a/nested\nb\n"},
		{cmd: listCommand(), args: []string{"b"}, out: "v1\nv2\n"},
		{cmd: removeCommand(), args: []string{"b:v1"}},
		{cmd: listCommand(), args: []string{"b"}, out: "v2\n"},
		{cmd: removeCommand(), args: []string{"b@" + digest.FromString(manifest).String()}},
		{cmd: listCommand(), args: []string{"b"}},
		{cmd: removeCommand(), args: []string{"b:v2"}, err: "404 Not Found: MANIFEST_UNKNOWN: manifest unknown"},
		{cmd: removeCommand(), args: []string{"b"}, err: "b: which tag or digest? Want REPOSITORY:TAG"},
		{cmd: removeCommand(), args: []string{"B:v2"}, err: "invalid repository name"},
		{cmd: removeCommand(), args: []string{"b@sha256:12"}, err: "digest"},
		{cmd: listCommand(), args: []string{"none"}, err: "404 Not Found: NAME_UNKNOWN"},
		{cmd: listCommand(), args: []string{"no/../name"}, err: "invalid repository name"},
	} {
		out, err := command(t.Context(), step.cmd, append([]string{"--registry", url}, step.args...)...)
		if step.err == "" && err != nil || step.err != "" && (err == nil || !strings.Contains(err.Error(), step.err)) {
			t.Errorf("%s %v: err = %v, want %q", step.cmd.Name(), step.args, err, step.err)
		}
		if out != step.out {
			t.Errorf("%s %v: printed %q, want %q", step.cmd.Name(), step.args, out, step.out)
		}
	}
}

// A registry sends a list in pages, which Link joins; its URL may be relative.
func TestListFollowsLinks(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "alice" || password != "secret" {
			t.Errorf("%s: signed in as %q", r.URL, user)
		}
		switch r.URL.RawQuery {
		case "":
			w.Header().Set("Link", `</v2/_catalog?n=1&last=a>; rel="next"`)
			fmt.Fprint(w, `{"repositories":["a"]}`)
		case "n=1&last=a":
			w.Header().Set("Link", `<?n=1&last=b>; rel=next`)
			fmt.Fprint(w, `{"repositories":["b"]}`)
		default:
			fmt.Fprint(w, `{"repositories":["c"]}`)
		}
	}))
	defer srv.Close()
	out, err := command(t.Context(), listCommand(), "--registry", strings.Replace(srv.URL, "//", "//alice:secret@", 1))
	if err != nil || out != "a\nb\nc\n" {
		t.Fatalf("printed %q, %v", out, err)
	}
}

func TestClientErrors(t *testing.T) {
	t.Parallel()
	answer := func(status int, header, body string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set("Link", header)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(srv.Close)
		return strings.Replace(srv.URL, "//", "//alice:secret@", 1)
	}
	moved := httptest.NewServer(http.RedirectHandler("https://elsewhere.example/", http.StatusMovedPermanently))
	t.Cleanup(moved.Close)
	for name, tc := range map[string]struct{ url, want string }{
		"no registry":  {answer(200, "", "<html>"), "no answer of a registry"},
		"no JSON":      {answer(502, "", "bad gateway"), "502 Bad Gateway"},
		"other host":   {answer(200, `<http://evil.example.com/v2/_catalog>; rel="next"`, `{"repositories":[]}`), "another host, evil.example.com"},
		"moved":        {moved.URL, "it is at \"https://elsewhere.example/\" now"},
		"nobody there": {"http://alice:secret@127.0.0.1:1", "connection refused"},
		"no URL":       {"localhost:5000", "--registry: want https://host or http://host"},
		"empty":        {"", "--registry: want https://host"},
		"path":         {"http://alice:secret@localhost:5000/v2/", "--registry: want"},
	} {
		_, err := command(t.Context(), listCommand(), "--registry", tc.url)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: err = %v, want %q", name, err, tc.want)
		}
	}
}
