package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Layouts is a storage.Store, that can only be read, of the OCI image layouts in a
// bucket, as zot keeps them: <repository>/index.json and <repository>/blobs/<alg>/<hex>.
// A blob of no bytes whose digest says otherwise stands for one that lies elsewhere:
// in another repository, or in a folder that is none.
//
// What there is is listed once, when somebody asks for the first time: nobody may
// write to the bucket meanwhile. All of the list is in memory.
type Layouts struct {
	prefix  string
	bucket  *patient
	release func()

	mu           sync.Mutex
	closed       bool
	listed       bool
	repositories map[oci.Name]*layoutRepository
	names        []oci.Name                 // of repositories, sorted
	full         map[digest.Digest]location // where the bytes of each blob are
}

// location is an object with the bytes of a blob.
type location struct {
	key  string
	size int64
}

var _ storage.Store = (*Layouts)(nil)

// OpenLayouts returns the store of the layouts below a prefix of a bucket. It asks
// nothing before it returns.
func OpenLayouts(ctx context.Context, at Location, prefix string) (*Layouts, error) {
	if at.Bucket == "" {
		return nil, errors.New("s3: no bucket")
	}
	b, err := newAWS(ctx, at)
	if err != nil {
		return nil, err
	}
	l := openLayouts(b, prefix)
	l.release = b.close
	return l, nil
}

func openLayouts(b bucket, prefix string) *Layouts {
	p := newPatience(Options{}.withDefaults().RetryFor)
	return &Layouts{prefix: newKeys(prefix).prefix, bucket: newPatient(b, p), release: func() {}}
}

// list finds out what there is, unless that's known. The mutex is held.
func (l *Layouts) list(ctx context.Context) error {
	if l.closed {
		return storage.ErrClosed
	}
	if l.listed {
		return ctx.Err()
	}
	l.repositories, l.full = make(map[oci.Name]*layoutRepository), make(map[digest.Digest]location)
	for last, more := "", true; more; {
		page, further, err := l.bucket.list(ctx, l.prefix, last)
		if err != nil {
			return fmt.Errorf("list the bucket: %w", err)
		}
		for _, o := range page {
			l.add(o)
			last = o.Key
		}
		more = further && len(page) > 0
	}
	maps.DeleteFunc(l.repositories, func(_ oci.Name, r *layoutRepository) bool { return !r.indexed })
	l.names = slices.SortedFunc(maps.Keys(l.repositories), oci.Name.Compare)
	l.listed = true
	return nil
}

// add takes in an object, if it's part of a layout.
func (l *Layouts) add(o listed) {
	path := strings.TrimPrefix(o.Key, l.prefix)
	folder, file := cutLast(path)
	if file == "index.json" {
		if r := l.repository(folder); r != nil {
			r.indexed = true
		}
		return
	}
	folder, algorithm := cutLast(folder)
	folder, blobs := cutLast(folder)
	d, err := oci.ParseDigest(algorithm + ":" + file)
	if blobs != "blobs" || err != nil {
		return
	}
	if o.Size > 0 || d == d.Algorithm().FromBytes(nil) {
		l.full[d] = location{o.Key, o.Size}
	}
	if r := l.repository(folder); r != nil {
		r.own[d] = location{o.Key, o.Size}
	}
}

// cutLast splits the last component off a path.
func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// repository returns the one in a folder, or nil if there can't be one.
func (l *Layouts) repository(folder string) *layoutRepository {
	name, err := oci.ParseName(folder)
	if err != nil {
		return nil
	}
	r := l.repositories[name]
	if r == nil {
		r = &layoutRepository{store: l, name: name, own: make(map[digest.Digest]location)}
		l.repositories[name] = r
	}
	return r
}

// Repository implements storage.Store.
func (l *Layouts) Repository(name oci.Name) storage.Repository {
	return &LayoutRepository{l, name}
}

// find returns a repository that exists.
func (l *Layouts) find(ctx context.Context, name oci.Name) (*layoutRepository, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.list(ctx); err != nil {
		return nil, err
	}
	r := l.repositories[name]
	if r == nil {
		return nil, oci.Errorf(oci.NameUnknown, "%s", name)
	}
	return r, nil
}

// Repositories implements storage.Store.
func (l *Layouts) Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error] {
	return func(yield func(oci.Name, error) bool) {
		l.mu.Lock()
		err := l.list(ctx)
		names := l.names
		l.mu.Unlock()
		if err != nil {
			yield(oci.Name{}, err)
			return
		}
		for _, n := range names {
			if n.Compare(after) > 0 && !yield(n, nil) {
				return
			}
		}
	}
}

// Ready implements storage.Store.
func (l *Layouts) Ready(ctx context.Context) error {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return storage.ErrClosed
	}
	_, _, err := l.bucket.list(ctx, l.prefix, "")
	return err
}

// Close implements storage.Store.
func (l *Layouts) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return storage.ErrClosed
	}
	l.closed = true
	l.release()
	return nil
}

// at returns where the bytes of a blob of r are.
func (r *layoutRepository) at(d digest.Digest) (location, error) {
	own, ok := r.own[d]
	if !ok {
		return location{}, unknownBlob(d)
	}
	if own.size > 0 {
		return own, nil
	}
	if full, ok := r.store.full[d]; ok {
		return full, nil
	}
	return location{}, fmt.Errorf("%w: it's empty, and its bytes are nowhere else", unknownBlob(d))
}
