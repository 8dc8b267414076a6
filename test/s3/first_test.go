//go:build real

package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/s3"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// crowded is a bucket with many repositories, each with many tags: ten thousand and
// a million at full size.
type crowded struct{ repositories, tags int }

func (c crowded) repository(i int) string { return fmt.Sprintf("team%d/app%d", i%100, i) }
func (crowded) tag(i int) string          { return fmt.Sprint("v", i) }

// manifest is what a tag names.
func (crowded) manifest(repository, tag int) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"layers":[],"annotations":{"number":"%d of %d"}}`, oci.MediaTypeImageManifest, tag, repository)
}

// fill makes the repositories, each by one change of its record.
func (c crowded) fill(t *testing.T, s *s3.Store) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range c.repositories {
		group.Go(func() error {
			manifests := make([]oci.Manifest, c.tags)
			for k := range manifests {
				var err error
				if manifests[k], err = oci.ParseManifest(oci.MediaTypeImageManifest, []byte(c.manifest(i, k)), digest.SHA256); err != nil {
					return err
				}
			}
			return s.Repository(name(t, c.repository(i))).Update(ctx, func(e *storage.Edit) error {
				for k, m := range manifests {
					e.Put(m)
					e.Tag(tag(t, c.tag(k)), m.Digest)
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// pull gets a manifest by a tag, and fails unless it's the right one.
func (c crowded) pull(ctx context.Context, srv *registry.Server, repository, tag int) error {
	resp, err := srv.Do(ctx, http.MethodGet, "/v2/"+c.repository(repository)+"/manifests/"+c.tag(tag), nil)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && string(got) != c.manifest(repository, tag) {
		err = fmt.Errorf("%s:%s is %s", c.repository(repository), c.tag(tag), got)
	}
	return err
}

// TestFirstAnswers starts the program on a crowded bucket. How many things there are
// makes no difference to how much it asks before it answers, nor to its memory; at
// full size that takes less than a second, and less than 500 MB.
//
//nolint:paralleltest // it measures time
func TestFirstAnswers(t *testing.T) {
	c := crowded{tool.Sized(300, 10_000), tool.Sized(20, 100)}
	minio := newStore(t)
	prefix := minio.prefix()
	begun := time.Now()
	filling := ready(t, minio.at(minio.endpoint), s3.Options{Prefix: prefix})
	c.fill(t, filling)
	if err := filling.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d repositories with %d tags each made in %v", c.repositories, c.tags, time.Since(begun).Round(time.Second))

	p, caddy := newProxy(t, minio.endpoint), registry.Program(t)
	var srv *registry.Server
	took := make(map[string]time.Duration)
	total, calls, _ := p.counted(func() {
		began := time.Now()
		srv = registry.Configure(t, caddy, minio.site(p.URL, prefix))
		for _, path := range []string{"/v2/", "/v2/" + c.repository(c.repositories/2) + "/manifests/" + c.tag(c.tags/2), "/v2/_catalog?n=100", "/health/readyz"} {
			srv.Await(path)
			took[path] = time.Since(began)
			if tool.Sized(false, true) && took[path] > time.Second {
				t.Errorf("%s is answered after %v", path, took[path])
			}
		}
	})
	t.Logf("answered after %v, with %d calls %v", took, total, calls)
	if total > 100 || calls["ListObjectsV2"] > 3 { // the probe, and a page of the catalog
		t.Errorf("%d calls, of which %d list something", total, calls["ListObjectsV2"])
	}
	c.load(t, srv)
}

// load pulls at random, and lists now and then.
func (c crowded) load(t *testing.T, srv *registry.Server) {
	t.Helper()
	const clients, most = 32, 500_000_000
	srv.Client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var next atomic.Int64
	pulls, begun := int64(tool.Sized(2_000, 30_000)), time.Now()
	group, ctx := errgroup.WithContext(t.Context())
	for i := range clients {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		group.Go(func() error {
			for n := next.Add(1); n <= pulls; n = next.Add(1) {
				repository := random.IntN(c.repositories)
				if err := c.pull(ctx, srv, repository, random.IntN(c.tags)); err != nil {
					return err
				}
				var err error
				switch {
				case n%100 == 0:
					_, err = srv.Repository(c.repository(repository)).Tags(ctx)
				case n%1000 == 50:
					err = srv.Get(ctx, "/v2/_catalog?n=1000&last="+c.repository(repository))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	_, peak, err := tool.Memory(srv.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pulls in %v, with at most %d MB", pulls, time.Since(begun).Round(time.Millisecond), peak/1e6)
	if peak > most {
		t.Errorf("it had %d MB in memory", peak/1e6)
	}
}
