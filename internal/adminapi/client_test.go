package adminapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// endpoint answers requests, by their method and path, with what is said of each in turn;
// the last one stays. It remembers what it was asked.
type endpoint struct {
	says  map[string][]string
	asked []string
}

func (e *endpoint) do(method, path string) (*http.Response, error) {
	what := method + " " + strings.TrimPrefix(path, Path)
	e.asked = append(e.asked, what)
	answers := e.says[what]
	if len(answers) == 0 {
		return nil, fmt.Errorf("404 for %s", what)
	}
	if len(answers) > 1 {
		e.says[what] = answers[1:]
	}
	return &http.Response{Body: io.NopCloser(strings.NewReader(answers[0]))}, nil
}

func TestRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{says: map[string][]string{
			"GET ":                       {`[{"name":"main"}]`},
			"POST /main/jobs/gc":         {`{"id":"a"}`},
			"GET /main/jobs/gc":          {`{"current":{"id":"a"},"last":{"id":"before"}}`, `{"current":{"id":"a"}}`, `{"last":{"id":"a","counts":{"removed_blobs":2}}}`},
			"GET /main/jobs/gc/findings": {`{"findings":["x","y"],"more":3}`},
		}}
		c := Client{Do: e.do}
		report, err := c.Round(t.Context(), "gc", false)
		if err != nil || report.ID != "a" || report.Counts["removed_blobs"] != 2 {
			t.Errorf("%+v, %v", report, err)
		}
		found, err := FindingsOf[string](&c, "gc")
		if err != nil || !slices.Equal(found.Findings, []string{"x", "y"}) || found.More != 3 {
			t.Errorf("%+v, %v", found, err)
		}
		if n := len(e.asked); n != 6 {
			t.Errorf("%d requests: %q", n, e.asked)
		}
	})
}

// A path is asked for with all that is about its store.
func TestRoundOfAPath(t *testing.T) {
	t.Parallel()
	e := &endpoint{says: map[string][]string{
		"POST /main/jobs/gc?dry_run&path=team%2Fapps": {`{"id":"a"}`},
		"GET /main/jobs/gc?path=team%2Fapps":          {`{"last":{"id":"a"}}`},
		"GET /main/jobs/gc/findings?path=team%2Fapps": {`{"more":1}`},
	}}
	c := Client{Do: e.do, Registry: "main", Prefix: "team/apps"}
	if _, err := c.Round(t.Context(), "gc", true); err != nil {
		t.Error(err)
	}
	if found, err := FindingsOf[string](&c, "gc"); err != nil || found.More != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestRoundsThatAreNotSeenToEnd(t *testing.T) {
	t.Parallel()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for status, want := range map[string]string{
		`{"current":{"id":"a"}}`:                   "not waiting any more; the round goes on",
		`{"current":{"id":"b"},"last":{"id":"c"}}`: "the round was followed by another one",
		`{}`: "the round was followed by another one",
	} {
		e := &endpoint{says: map[string][]string{"POST /main/jobs/gc": {`{"id":"a"}`}, "GET /main/jobs/gc": {status}}}
		if _, err := (&Client{Do: e.do, Registry: "main"}).Round(stopped, "gc", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", status, err, want)
		}
	}
}

// Whatever is asked first finds out which registry is meant.
func TestWhichRegistry(t *testing.T) {
	t.Parallel()
	for all, want := range map[string]string{
		`[{"name":"main","storage":{}}]`:    "",
		`[]`:                                "there are 0 registries (): say which one with --name",
		`[{"name":"a"},{"name":"b"}]`:       "there are 2 registries (a, b): say which one with --name",
		`{"error":"this is another Caddy"}`: "cannot unmarshal",
	} {
		for what, ask := range map[string]func(c *Client) error{
			"POST /main/tokens/replace-keys": func(c *Client) error { return c.Post("/tokens/replace-keys") },
			"POST /main/jobs/gc":             func(c *Client) error { _, err := c.Round(t.Context(), "gc", false); return err },
			"GET /main/jobs/gc/findings":     func(c *Client) error { _, err := FindingsOf[string](c, "gc"); return err },
		} {
			e := &endpoint{says: map[string][]string{"GET ": {all}, what: {`{"id":"a"}`}, "GET /main/jobs/gc": {`{"last":{"id":"a"}}`}}}
			err := ask(&Client{Do: e.do})
			if want == "" && (err != nil || !slices.Contains(e.asked, what)) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s of %s: %v, want %q", what, all, err, want)
			}
		}
	}
}

// What the endpoint can't be asked is said as it is.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	c := Client{Do: func(string, string) (*http.Response, error) { return nil, refused }, Registry: "main"}
	_, round := c.Round(t.Context(), "gc", false)
	for _, err := range []error{c.Post("/restore/a"), round} {
		if !errors.Is(err, refused) {
			t.Error(err)
		}
	}
}
