//go:build real

package s3_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// cluster is examples/cluster: replicas on a bucket of a store of its own, and
// before them a Caddy that sends each request to the next one.
type cluster struct {
	t        *testing.T
	programs []*tool.Tool
	replicas []*tool.Server
	each     []*remote.Registry
	balancer remote.Registry
}

func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	minio := newStore(t)
	c := &cluster{t: t}
	var addresses []string
	for i := range n {
		address := registry.FreeAddress(t)
		c.programs = append(c.programs, c.program(address, "S3_ENDPOINT="+minio.endpoint, "S3_KEY="+tool.MinIOKey, "S3_SECRET="+tool.MinIOSecret))
		c.replicas = append(c.replicas, nil)
		c.each = append(c.each, &remote.Registry{URL: "http://" + address})
		addresses = append(addresses, address)
		c.start(i)
	}
	for _, r := range c.each {
		c.await(r, "/health/readyz")
	}
	address := registry.FreeAddress(t)
	c.run(c.program(address, "REPLICAS="+strings.Join(addresses, " ")), "balancer")
	c.balancer.URL = "http://" + address
	c.await(&c.balancer, "/v2/")
	return c
}

// program is Caddy, to listen at an address.
func (c *cluster) program(address string, env ...string) *tool.Tool {
	c.t.Helper()
	p := registry.Program(c.t)
	_, port, _ := strings.Cut(address, ":")
	p.Env = append(append(p.Env, "PORT="+port), env...)
	return p
}

func (c *cluster) run(p *tool.Tool, what string) *tool.Server {
	c.t.Helper()
	config := filepath.Join(tool.Root(c.t), "examples", "cluster", what, "Caddyfile")
	if _, err := os.Stat(config); err != nil {
		c.t.Fatal(err)
	}
	return p.Start("run", "--config", config, "--adapter", "caddyfile")
}

func (c *cluster) start(i int) { c.replicas[i] = c.run(c.programs[i], "replica") }

// await waits until a registry answers path with 2xx.
func (c *cluster) await(r *remote.Registry, path string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := r.Get(ctx, path)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatal(err)
		case <-again.C:
		}
	}
}

// kill kills a random replica now and then, and starts it again, until done.
func (c *cluster) kill(every time.Duration, kills *atomic.Int64, done <-chan struct{}) {
	c.t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		select {
		case <-done:
			return
		case <-again.C:
			i := random.IntN(len(c.replicas))
			c.replicas[i].Kill()
			c.start(i)
			kills.Add(1)
		}
	}
}

// Pushes of different tags to one repository go through a balancer to replicas
// that are killed all the time. What was acknowledged is at each of them
// afterwards; and what was said of tags that several create at once can have
// happened in an order.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	pushes, leastKills := tool.Sized[int64](60, 500), tool.Sized[int64](6, 30)
	var next, kills, failed atomic.Int64
	var mu sync.Mutex
	acknowledged := make(map[string]*image.Content)
	enough := func() bool { return next.Load() >= pushes && kills.Load() >= leastKills }
	races := &races{cluster: c, enough: enough}
	var busy sync.WaitGroup
	for range 6 {
		busy.Go(func() {
			for !enough() && t.Context().Err() == nil {
				n := next.Add(1)
				tag, img := fmt.Sprint("v", n), image.Random(uint64(n), 2, 20_000)
				for c.balancer.Repository("team/app").Push(t.Context(), img, tag) != nil {
					if failed.Add(1); t.Context().Err() != nil { // a client tries again
						return
					}
				}
				mu.Lock()
				acknowledged[tag] = img
				mu.Unlock()
			}
		})
	}
	for i := range 4 {
		busy.Go(func() { races.run(i) })
	}
	done := make(chan struct{})
	go func() {
		busy.Wait()
		close(done)
	}()
	c.kill(tool.Sized(1200*time.Millisecond, 2*time.Second), &kills, done)
	t.Logf("%d pushes were acknowledged, %d failed, with %d kills", len(acknowledged), failed.Load(), kills.Load())
	c.wantEverywhere(acknowledged)
	races.check()
}

// wantEverywhere fails the test unless each replica has all images, whole.
func (c *cluster) wantEverywhere(images map[string]*image.Content) {
	c.t.Helper()
	var looking sync.WaitGroup
	for i, r := range c.each {
		c.await(r, "/health/readyz")
		looking.Go(func() {
			repository := r.Repository("team/app")
			for tag, want := range images {
				if desc, err := repository.Verify(c.t.Context(), tag); err != nil || desc.Digest != want.Digest {
					c.t.Errorf("at replica %d %s is %s, %v; want %s", i, tag, desc.Digest, err, want.Digest)
				}
			}
			tags, err := repository.Tags(c.t.Context())
			if err != nil || len(tags) < len(images) {
				c.t.Errorf("replica %d lists %d tags, %v; want %d", i, len(tags), err, len(images))
			}
		})
	}
	looking.Wait()
}
