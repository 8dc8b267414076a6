package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/caddy-oci/oci-registry/internal/origin"
	"github.com/caddy-oci/oci-registry/oci"
)

// client speaks to a running registry: this one or another make.
type client struct {
	base *url.URL // without a path
}

func newClient(registry string) (*client, error) {
	if err := origin.Check(withoutUser(registry)); err != nil {
		return nil, fmt.Errorf("--registry: want https://host or http://host, got %q", withoutUser(registry))
	}
	u, err := url.Parse(registry)
	if err != nil {
		return nil, errors.New("--registry: not a URL")
	}
	u.Path = ""
	return &client{u}, nil
}

// withoutUser returns a URL without the user's name and password.
func withoutUser(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

// repositories yields the names in the catalog. An error ends it.
func (c *client) repositories(ctx context.Context) iter.Seq2[string, error] {
	return c.list(ctx, "/v2/_catalog", "repositories")
}

// tags yields the tags of a repository. An error ends it.
func (c *client) tags(ctx context.Context, repository string) iter.Seq2[string, error] {
	name, err := oci.ParseName(repository)
	if err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return c.list(ctx, "/v2/"+name.String()+"/tags/list", "tags")
}

// list yields the strings that a paginated list has under key.
func (c *client) list(ctx context.Context, path, key string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for next := path; next != ""; {
			var page map[string]json.RawMessage
			var names []string
			header, err := c.do(ctx, http.MethodGet, next, &page)
			if err == nil && page[key] != nil {
				err = json.Unmarshal(page[key], &names)
			}
			if err == nil {
				next, err = c.nextPage(next, header)
			}
			if err != nil {
				yield("", err)
				return
			}
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
		}
	}
}

var nextLinkRE = regexp.MustCompile(`^\s*<([^>]+)>\s*;.*\brel="?next"?`)

// nextPage returns the path of the page after that at path, or nothing if
// that's the last (RFC 8288).
func (c *client) nextPage(path string, header http.Header) (string, error) {
	m := nextLinkRE.FindStringSubmatch(header.Get("Link"))
	if m == nil {
		return "", nil
	}
	here, err := c.base.Parse(path)
	if err != nil {
		return "", err
	}
	next, err := here.Parse(m[1])
	if err != nil {
		return "", fmt.Errorf("link to the next page: %w", err)
	}
	if next.Host != c.base.Host {
		return "", fmt.Errorf("the next page is said to be at another host, %s", next.Host)
	}
	return next.RequestURI(), nil
}

// remove deletes what reference names: repository:tag or repository@digest.
func (c *client) remove(ctx context.Context, reference string) error {
	repository, ref, ok := strings.Cut(reference, "@")
	if !ok {
		i := strings.LastIndexByte(reference, ':')
		if i < 0 {
			return fmt.Errorf("%s: which tag or digest? Want REPOSITORY:TAG or REPOSITORY@DIGEST", reference)
		}
		repository, ref = reference[:i], reference[i+1:]
	}
	name, err := oci.ParseName(repository)
	if err != nil {
		return err
	}
	parsed, err := oci.ParseReference(ref)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodDelete, "/v2/"+name.String()+"/manifests/"+parsed.String(), nil)
	return err
}

// noRedirects shows a redirect instead of following it: a DELETE would become a GET,
// and whatever answers that isn't the registry that was asked.
var noRedirects = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends a request and decodes the answer into out, if that isn't nil.
func (c *client) do(ctx context.Context, method, path string, out any) (http.Header, error) {
	u, err := c.base.Parse(path)
	if err != nil {
		return nil, err
	}
	u.User = c.base.User
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := noRedirects.Do(req)
	if refused := (*url.Error)(nil); errors.As(err, &refused) {
		return nil, fmt.Errorf("%s doesn't answer (--registry says which registry to ask): %w", c.base.Redacted(), refused.Err)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, 32<<20)
	if resp.StatusCode >= 300 {
		return nil, refusal(u, resp, body)
	}
	if out == nil {
		return resp.Header, nil
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return nil, fmt.Errorf("%s: no answer of a registry: %w", u.Redacted(), err)
	}
	return resp.Header, nil
}

// refusal is the error that a registry answered with.
func refusal(u *url.URL, resp *http.Response, body io.Reader) error {
	var said struct {
		Errors []struct{ Code, Message string }
	}
	if to := resp.Header.Get("Location"); resp.StatusCode < 400 && to != "" {
		return fmt.Errorf("%s: it is at %q now: ask there, with --registry", u.Redacted(), to)
	}
	if err := json.NewDecoder(body).Decode(&said); err != nil || len(said.Errors) == 0 {
		return fmt.Errorf("%s: %s", u.Redacted(), resp.Status)
	}
	return fmt.Errorf("%s: %s: %s", resp.Status, said.Errors[0].Code, said.Errors[0].Message)
}
