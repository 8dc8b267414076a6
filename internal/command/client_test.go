package command

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// execute runs one of the sub-commands and returns what it printed.
func execute(ctx context.Context, cmd *cobra.Command, args ...string) (string, error) {
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceErrors = true
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
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
	out, err := execute(t.Context(), newList(), "--registry", strings.Replace(srv.URL, "//", "//alice:secret@", 1))
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
		_, err := execute(t.Context(), newList(), "--registry", tc.url)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: err = %v, want %q", name, err, tc.want)
		}
	}
}
