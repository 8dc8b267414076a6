package s3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// seeds is how many orders a test plays.
func seeds() uint64 {
	switch {
	case os.Getenv("OCI_SOAK") == "1":
		return 50_000
	case testing.Short():
		return 60
	}
	return 400
}

// TestSimulation lets replicas that crash push, tag, delete, mount and upload at
// once, on a bucket that fails, answers late or not at all, in an order that the
// seed decides. What was acknowledged holds afterwards, and nothing that is named
// is missing.
func TestSimulation(t *testing.T) {
	t.Parallel()
	const shards = 4
	for shard := range uint64(shards) {
		t.Run(fmt.Sprint("shard ", shard), func(t *testing.T) {
			t.Parallel()
			for seed := shard; seed < seeds() && !t.Failed(); seed += shards {
				synctest.Test(t, func(t *testing.T) {
					if errs, trace := simulate(t, seed, func(b bucket) bucket { return b }); len(errs) > 0 {
						t.Errorf("seed %d: %v\ncalls in order:\n%s", seed, errors.Join(errs...), trace)
					}
				})
			}
		})
	}
}

// The simulation notices a bucket that doesn't keep conditions.
func TestSimulationHasTeeth(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		found := false
		synctest.Test(t, func(t *testing.T) {
			errs, _ := simulate(t, seed, func(b bucket) bucket { return unconditional{b} })
			found = len(errs) > 0
		})
		if found {
			t.Logf("seed %d finds it", seed)
			return
		}
	}
	t.Fatal("no seed finds it")
}

// simulate plays one order, and returns what's wrong after it. Each replica sees
// the bucket through a wrapper.
func simulate(t *testing.T, seed uint64, wrap func(bucket) bucket) (errs []error, trace string) {
	w := newWorld(seed, []float64{0, 0.05, 0.2}[seed%3])
	s := &simulation{
		world: w, wrap: wrap, ctx: t.Context(),
		opts: Options{DigestsFreshFor: -1, PartSize: 8 << 10, PartsAtOnce: 2},
	}
	for i := range 2 + int(seed%2) {
		s.stores = append(s.stores, nil)
		s.start(i)
	}
	var running sync.WaitGroup
	w.clients = 3
	for i := range w.clients {
		c := newClient(s, i, seed)
		running.Go(func() {
			c.run()
			w.mu.Lock()
			w.clients--
			w.mu.Unlock()
		})
	}
	w.run()
	running.Wait()
	s.audit()
	s.errs = append(s.errs, s.misuse...)
	return s.errs, strings.Join(w.trace, "\n")
}

// simulation is some replicas and what was asked of them.
type simulation struct {
	*world

	ctx    context.Context //nolint:containedctx // that of the test
	wrap   func(bucket) bucket
	opts   Options
	stores []*incarnation

	mu      sync.Mutex
	history []porcupine.Operation // of the tag that all clients fight for
	owned   []ownership
	errs    []error
}

func (s *simulation) errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, fmt.Errorf(format, args...))
}

// incarnation is a replica from its start to its death.
type incarnation struct {
	*Store

	bucket *replica
}

// ownership is something that only one client changes, at the end.
type ownership struct {
	what string
	is   func(ctx context.Context, s *Store) error
}

func (s *simulation) start(i int) {
	b := &replica{world: s.world, name: fmt.Sprint("replica ", i)}
	opened := open(s.wrap(b), s.opts)
	opened.patience.first, opened.patience.most = time.Millisecond, 8*time.Millisecond
	opened.limits = limits{tail: 3 << 10, segments: 8 << 10, inline: 500, slow: 20 * time.Millisecond}
	s.stores[i] = &incarnation{opened, b}
}

// audit looks at what is there, through a new replica on a bucket without faults.
func (s *simulation) audit() {
	ctx, last := s.ctx, open(s.fake, s.opts)
	for _, o := range s.owned {
		if err := o.is(ctx, last); err != nil {
			s.errorf("%s: %w", o.what, err)
		}
	}
	for name, err := range last.Repositories(ctx, oci.Name{}) {
		if err == nil {
			err = whole(ctx, last, name)
		}
		if err != nil {
			s.errorf("%s: %w", name, err)
		}
	}
	if !porcupine.CheckOperations(register(), s.history) {
		s.errorf("what was said of one tag can't have been in any order: %+v", s.history)
	}
	if err := last.Close(); err != nil {
		s.errorf("close: %w", err)
	}
}

// whole says what of a repository is named and not there.
func whole(ctx context.Context, s *Store, name oci.Name) error {
	known := s.cache.acquire(s, name)
	defer s.cache.release(known)
	now, err := known.refresh(ctx)
	if err != nil {
		return err
	}
	for key, b := range now.blobs.All() {
		if b.Unsure { // who mounted it has died
			continue
		}
		if err := verify(ctx, s.Repository(name), digest.Digest(key)); err != nil {
			return err
		}
	}
	for desc := range now.index.Manifests() {
		m, err := storage.ReadManifest(ctx, s.Repository(name), desc)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
		for b := range m.Required() {
			if err := verify(ctx, s.Repository(name), b.Digest); err != nil {
				return fmt.Errorf("manifest %s: %w", desc.Digest, err)
			}
		}
	}
	return nil
}

func verify(ctx context.Context, r storage.Reader, d digest.Digest) error {
	b, err := r.OpenBlob(ctx, d)
	if err != nil {
		return err
	}
	v := d.Verifier()
	var text strings.Builder
	buf := make([]byte, 7000)
	for {
		n, err := b.Read(buf)
		_, _ = v.Write(buf[:n])
		if text.Len() < 40 {
			text.Write(buf[:min(n, 40)])
		}
		if n == 0 && err != nil {
			break
		}
	}
	if !v.Verified() {
		return fmt.Errorf("blob %s has other bytes: %q…", d, text.String())
	}
	return b.Close()
}

// register is a tag: put, put if it's nothing, removed, and read.
type registerInput struct {
	do    string
	value digest.Digest
}

type registerOutput struct {
	unknown bool // whether it happened isn't known
	failed  bool
	value   digest.Digest
}

func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return digest.Digest("") },
		Step: func(state, input, output any) (bool, any) {
			now, in, out := state.(digest.Digest), input.(registerInput), output.(registerOutput)
			switch in.do {
			case "read":
				return out.unknown || out.value == now, now
			case "put":
				return true, in.value
			case "remove":
				return out.unknown || out.failed == (now == ""), digest.Digest("")
			default: // create
				if now != "" {
					return out.unknown || out.failed, now
				}
				return out.unknown || !out.failed, in.value
			}
		},
	}
}
