//go:build real

// Package remote is a registry client for tests. It does one request at a time
// and none twice, hides no failure, and believes nothing that it hasn't hashed.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/test/image"
)

// Registry is a registry at a URL without a path.
type Registry struct {
	URL string

	// Client sends the requests. Default: http.DefaultClient.
	Client *http.Client
}

// Repository is one repository of a registry.
type Repository struct {
	*Registry

	Name string
}

// Repository returns the repository called name.
func (r *Registry) Repository(name string) *Repository { return &Repository{r, name} }

// StatusError is an answer that says no.
type StatusError struct {
	Method, Path string
	Status       int
	Body         string
}

// Error says what was asked and what was answered.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s %s", e.Method, e.Path, e.Status, http.StatusText(e.Status), e.Body)
}

// Status is the HTTP status that err is about; 0 if it isn't about one.
func Status(err error) int {
	if se, ok := errors.AsType[*StatusError](err); ok {
		return se.Status
	}
	return 0
}

// Do sends a request; the caller closes the answer's body. An answer outside
// of 2xx is a *StatusError.
func (r *Registry) Do(ctx context.Context, method, path string, body io.Reader, header ...string) (*http.Response, error) {
	base, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	u, err := base.Parse(path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := r.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil || resp.StatusCode < 300 {
		return resp, err
	}
	said, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return nil, errors.Join(&StatusError{method, u.RequestURI(), resp.StatusCode, strings.TrimSpace(string(said))}, err, resp.Body.Close())
}

// exchange is Do for answers whose body doesn't matter.
func (r *Registry) exchange(ctx context.Context, method, path string, body io.Reader, header ...string) (http.Header, error) {
	resp, err := r.Do(ctx, method, path, body, header...)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.Header, errors.Join(err, resp.Body.Close())
}

// Get asks for a path whose answer doesn't matter but for its status.
func (r *Registry) Get(ctx context.Context, path string) error {
	_, err := r.exchange(ctx, http.MethodGet, path, nil)
	return err
}

// Repositories lists the registry.
func (r *Registry) Repositories(ctx context.Context) ([]string, error) {
	return r.list(ctx, "/v2/_catalog?n=1000", "repositories")
}

// Tags lists the repository's tags.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	return r.list(ctx, "/v2/"+r.Name+"/tags/list", "tags")
}

func (r *Registry) list(ctx context.Context, path, key string) ([]string, error) {
	resp, err := r.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if link := resp.Header.Get("Link"); link != "" {
		return nil, fmt.Errorf("%s has more pages, which no test expects: %s", path, link)
	}
	var page map[string]json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var names []string
	return names, json.Unmarshal(page[key], &names)
}

// Resolve returns what a tag or digest names, as HEAD tells it.
func (r *Repository) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	resp, err := r.Do(ctx, http.MethodHead, r.manifest(ref), nil, "Accept", "*/*")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{
		MediaType: resp.Header.Get("Content-Type"),
		Digest:    digest.Digest(resp.Header.Get("Docker-Content-Digest")),
		Size:      resp.ContentLength,
	}
	return desc, errors.Join(desc.Digest.Validate(), resp.Body.Close())
}

// Open implements image.Source.
func (r *Repository) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	path := r.blob(d.Digest)
	if oci.IsManifest(d.MediaType) {
		path = r.manifest(d.Digest.String())
	}
	resp, err := r.Do(ctx, http.MethodGet, path, nil, "Accept", "*/*")
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Verify reads what a tag or digest names, whole, and compares every digest.
func (r *Repository) Verify(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	desc, err := r.Resolve(ctx, ref)
	if err != nil {
		return desc, err
	}
	if _, err := image.Verify(ctx, r, desc); err != nil {
		return desc, fmt.Errorf("%s:%s isn't whole: %w", r.Name, ref, err)
	}
	return desc, nil
}

// Referrers lists the digests of the manifests whose subject is d.
func (r *Repository) Referrers(ctx context.Context, d digest.Digest) ([]digest.Digest, error) {
	resp, err := r.Do(ctx, http.MethodGet, "/v2/"+r.Name+"/referrers/"+d.String(), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var index ocispec.Index
	if err := json.NewDecoder(resp.Body).Decode(&index); err != nil {
		return nil, err
	}
	var all []digest.Digest
	for _, m := range index.Manifests {
		all = append(all, m.Digest)
	}
	return all, nil
}

// HasBlob reports whether the repository has a blob.
func (r *Repository) HasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := r.exchange(ctx, http.MethodHead, r.blob(d), nil)
	if Status(err) == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// DeleteManifest deletes a tag, or a manifest by its digest.
func (r *Repository) DeleteManifest(ctx context.Context, ref string) error {
	_, err := r.exchange(ctx, http.MethodDelete, r.manifest(ref), nil)
	return err
}

// DeleteBlob deletes a blob.
func (r *Repository) DeleteBlob(ctx context.Context, d digest.Digest) error {
	_, err := r.exchange(ctx, http.MethodDelete, r.blob(d), nil)
	return err
}

// Push pushes content: blobs that aren't there, then manifests, the last one as tag.
func (r *Repository) Push(ctx context.Context, c *image.Content, tag string) error {
	for _, b := range c.Blobs {
		if err := r.PushBlob(ctx, b); err != nil {
			return err
		}
	}
	for _, m := range c.Manifests {
		ref := m.Digest.String()
		if m.Digest == c.Digest {
			ref = tag
		}
		header, err := r.exchange(ctx, http.MethodPut, r.manifest(ref), bytes.NewReader(m.Bytes), "Content-Type", m.MediaType)
		if err != nil {
			return err
		}
		if got := header.Get("Docker-Content-Digest"); got != m.Digest.String() {
			return fmt.Errorf("the registry took %s for %s", m.Digest, got)
		}
	}
	return nil
}

// PushBlob pushes a blob unless it's there.
func (r *Repository) PushBlob(ctx context.Context, b image.Part) error {
	if there, err := r.HasBlob(ctx, b.Digest); there || err != nil {
		return err
	}
	u, err := r.StartUpload(ctx)
	if err != nil {
		return err
	}
	return u.Commit(ctx, b.Digest, b.Bytes)
}

func (r *Repository) manifest(ref string) string { return "/v2/" + r.Name + "/manifests/" + ref }

func (r *Repository) blob(d digest.Digest) string { return "/v2/" + r.Name + "/blobs/" + d.String() }

var _ image.Source = (*Repository)(nil)
