// Package s3 keeps registries in a bucket of an object store that speaks S3. Any
// number of processes may serve one bucket at once, each doing everything.
//
//	data/<random ID>        bytes, written once; an ID is never used again
//	repositories/<name>     a record each, changed by compare-and-swap, never removed
//	segments/<name>/<ID>    what a record doesn't hold any more, written once
//	uploads/<session>       a record for each upload session that outlives a request
//	notes/<name>            what background work remembers, and
//	claims/<name>           which process does it
//	redirects               until when clients may come that were sent here
//	state/<key>             keys that sign, API keys; secret
//
// docs/adr/0005-s3-record.md says why, and storage/format.md exactly how.
package s3

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Options say how a Store works, beside where it is.
type Options struct {
	// Prefix is what all keys begin with. Default: none.
	Prefix string

	// PartSize is how large the parts of a large blob are, in bytes: from 5 MiB on,
	// but the tests'. Default: 16 MiB, or more if a blob said to be huge needs it.
	PartSize int64

	// PartsAtOnce is how many parts of one blob are sent at once. Default: 4.
	PartsAtOnce int

	// Memory is what all uploads together may hold in part buffers, of this store and
	// of all that share it. What there's no room for is stored in small objects first.
	// Default: 256 MiB, for this store alone.
	Memory *Budget

	// AwaitMemory has uploads wait for memory that there isn't, instead of storing small
	// objects: for a process whose uploads never stand still, since it has their content.
	// Default: false.
	AwaitMemory bool

	// RetryFor is how long a call that fails is tried again. Default: 20 s.
	RetryFor time.Duration

	// DigestsFreshFor is how old the knowledge may be by which a blob or manifest is
	// found by digest, so that pulling what a tag has led to asks no more. Something
	// deleted by another process may be served for so long. Default: 5 s; negative:
	// it's always asked.
	DigestsFreshFor time.Duration

	// RedirectFrom is from which size on clients are to fetch a blob from the bucket
	// by themselves, in bytes. Small ones never are, that share an object with
	// others. Default: 0, none is.
	RedirectFrom int64

	// RedirectLife is how long the URL of a redirect is good, at most seven days. What
	// it's for stays as long, also once this is changed. With ReadOnly it's no longer
	// than that of those who write. Default: 20 min.
	RedirectLife time.Duration

	// TagsFreshFor is how old the knowledge may be by which a tag is resolved. A tag
	// that another process has moved may be served as it was for so long. Default:
	// 0, it's always asked.
	TagsFreshFor time.Duration

	// SingleWriter is for stores that don't keep the conditions of conditional
	// writes. Nobody else may write to the bucket then. Default: false.
	SingleWriter bool

	// ReadOnly is for who isn't going to write: the store isn't probed, which takes
	// writing. Default: false.
	ReadOnly bool

	// Log gets what is found out about the bucket. Default: nobody hears of it.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.PartSize, 16<<20)
	setDefault(&o.PartsAtOnce, 4)
	setDefault(&o.RetryFor, 20*time.Second)
	setDefault(&o.DigestsFreshFor, 5*time.Second)
	setDefault(&o.RedirectLife, 20*time.Minute)
	if o.Memory == nil {
		o.Memory = NewBudget(256 << 20)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Store is a storage.Store in a bucket. Only Open makes one.
type Store struct {
	tuned    atomic.Pointer[Options]
	keys     keys
	patience *patience
	bucket   *patient
	cache    cache
	sessions sessions
	claims   claims
	pulls    pulls
	links    links
	memory   *Budget
	probe    *probe
	limits   limits
	stop     context.CancelFunc // ends what runs in the background
	closing  chan struct{}      // closed by Close, for what has something to end
	reach    reach

	stateMu sync.Mutex // held while a single writer compares and replaces a value of state/

	running sync.WaitGroup // what Close waits for; added to under mu, while the store is open
	mu      sync.RWMutex
	closed  bool
}

var _ storage.Store = (*Store)(nil)

func open(b bucket, opts Options) *Store {
	opts = opts.withDefaults()
	if opts.SingleWriter {
		b = unconditional{b}
	}
	p := newPatience(opts.RetryFor)
	s := &Store{
		keys: newKeys(opts.Prefix), patience: p, bucket: newPatient(b, p),
		cache:    cache{repos: make(map[oci.Name]*repo)},
		sessions: sessions{live: make(map[string]*session), over: make(map[string]struct{})},
		memory:   opts.Memory,
		limits:   limits{tail: 256 << 10, segments: 1 << 20, inline: 32 << 10, slow: 25 * time.Second},
		stop:     func() {}, closing: make(chan struct{}),
	}
	s.tuned.Store(&opts)
	s.memory.fit(opts.PartSize, opts.AwaitMemory)
	s.probe = &probe{store: s, begin: func() {}, done: make(chan struct{}), checks: make(map[string]storage.Check), changed: make(chan struct{})}
	close(s.probe.done)
	return s
}

// options are those that hold now.
func (s *Store) options() *Options { return s.tuned.Load() }

// Tune changes the options for what is begun from now on, all but Prefix, Memory
// and SingleWriter.
func (s *Store) Tune(opts Options) {
	now := s.options()
	wants := opts.SingleWriter
	opts.Prefix, opts.Memory, opts.SingleWriter, opts.AwaitMemory = now.Prefix, now.Memory, now.SingleWriter, now.AwaitMemory
	opts = opts.withDefaults()
	if wants != now.SingleWriter {
		opts.Log.Error("single_writer is changed by a restart, not by a reload", slog.Bool("holds", now.SingleWriter))
	}
	s.memory.fit(opts.PartSize, opts.AwaitMemory)
	s.tuned.Store(&opts)
	s.patience.set(opts.RetryFor)
	if !opts.ReadOnly {
		s.probe.begin()
	}
}

// openProbed is open, with a probe beside serving.
func openProbed(b bucket, opts Options) *Store {
	s := open(b, opts)
	ctx, cancel := context.WithCancel(context.Background())
	looked := make(chan struct{})
	s.stop, s.probe.done = cancel, make(chan struct{})
	s.probe.begin = sync.OnceFunc(func() {
		s.background(func() {
			<-looked
			s.probe.settle(ctx)
			if o := s.options(); o.RedirectFrom > 0 && s.probe.outcome() == nil {
				s.linkAhead(ctx, o.RedirectLife)
			}
		})
	})
	s.background(func() {
		s.probe.look(ctx, opts.ReadOnly)
		close(looked)
	})
	if !opts.ReadOnly {
		s.probe.begin()
	}
	return s
}

// background does something that Close waits for; false if it's closed.
func (s *Store) background(do func()) bool {
	done, err := s.begin()
	if err != nil {
		return false
	}
	go func() {
		defer done()
		do()
	}()
	return true
}

// limits are how large things may grow, in bytes, and how old.
type limits struct {
	tail     int // of a record: beyond, it's folded
	segments int // of a record, before they become one
	inline   int // the bytes of a session that are in its record

	// slow is how long bytes that no record and no session names are sure to be
	// there. It's less than half of any grace.
	slow time.Duration
}

// unconditional is a bucket with one writer, who knows what is there.
type unconditional struct{ bucket }

func (u unconditional) put(ctx context.Context, what putRequest) (string, error) {
	what.IfMatch, what.IfAbsent = "", false
	return u.bucket.put(ctx, what)
}

// begin keeps Close waiting until done is called.
func (s *Store) begin() (done func(), err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	s.running.Add(1)
	return s.running.Done, nil
}

// Repository implements storage.Store.
func (s *Store) Repository(name oci.Name) storage.Repository { return &Repository{s, name} }

// Repositories implements storage.Store. A page of a thousand is one call.
func (s *Store) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		last := ""
		if !after.IsZero() {
			last = s.keys.record(after)
		}
		for more := true; more; {
			var page []listed
			var err error
			page, more, err = s.page(ctx, last)
			if err != nil {
				yield(oci.Name{}, err)
				return
			}
			for _, o := range page {
				last = o.Key
				name, err := s.keys.name(o.Key)
				if err != nil || o.Size < smallest { // not ours, or retired
					continue
				}
				if !yield(name, nil) {
					return
				}
			}
		}
	}
}

func (s *Store) page(ctx context.Context, after string) ([]listed, bool, error) {
	done, err := s.begin()
	if err != nil {
		return nil, false, err
	}
	defer done()
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	return s.bucket.list(ctx, s.keys.records(), after)
}

// Ready implements storage.Store.
func (s *Store) Ready(ctx context.Context) error {
	done, err := s.begin()
	if err != nil {
		return err
	}
	defer done()
	if err = s.probe.outcome(); err != nil && !s.options().ReadOnly {
		return err
	}
	return s.answers(ctx)
}

// answers returns nil if the bucket can be read.
func (s *Store) answers(ctx context.Context) error {
	_, _, err := s.bucket.fetch(ctx, getRequest{Key: s.keys.condemned(anyID), Length: 1})
	if errors.Is(err, errNotFound) {
		return nil
	}
	return err
}

// anyID is one that may or may not have been used.
const anyID = "A"

// writable returns nil once it's known that the store can be written to safely.
func (s *Store) writable(ctx context.Context) error { return s.probe.wait(ctx) }

// Close implements storage.Store. Sessions that others could go on with are written down.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return storage.ErrClosed
	}
	s.stop()
	close(s.closing)
	s.running.Wait()
	defer s.reach.release()
	return s.sessions.flush(context.Background())
}
