package filesystem

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

const (
	// smallBlob is the size up to which a blob may be kept in memory, in bytes. To open
	// a file, read it and close it again costs more than to send what's in it.
	smallBlob = 64 << 10

	// smallBytes is what all of them may take, in bytes.
	smallBytes = 8 << 20
)

// smallBlobs are the contents of small blobs and manifests that were read more than
// once lately. Each counts only while its file is the one that was read: who asks
// has looked at that just now.
type smallBlobs struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[smallKey, smallContent] // nil until there's one
	bytes int
	seed  maphash.Seed
	read  [4096]uint32 // hashes of what was read once, by other bits of them
}

type smallKey struct {
	repository oci.Name
	digest     digest.Digest
}

type smallContent struct {
	stamp fileStamp
	data  []byte
}

// cost is what it takes in memory, about: with its key and its place.
func (c smallContent) cost() int { return len(c.data) + 512 }

// get returns what is kept for a key, or whether what it stands for is worth keeping.
func (s *smallBlobs) get(key smallKey) (c smallContent, kept, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru == nil {
		s.lru, _ = simplelru.NewLRU(smallBytes, func(_ smallKey, c smallContent) { s.bytes -= c.cost() }) // it's positive
		s.seed = maphash.MakeSeed()
	}
	if c, kept = s.lru.Get(key); kept {
		return c, true, false
	}
	h := maphash.Comparable(s.seed, key)
	slot, mark := &s.read[h%uint64(len(s.read))], uint32(h>>32)
	keep, *slot = *slot == mark, mark
	return smallContent{}, false, keep
}

func (s *smallBlobs) drop(key smallKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lru.Remove(key)
}

func (s *smallBlobs) put(key smallKey, c smallContent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lru.Remove(key) // another one may have put it
	s.lru.Add(key, c)
	for s.bytes += c.cost(); s.bytes > smallBytes; {
		s.lru.RemoveOldest()
	}
}

// openOften is open, of what may be in memory.
func (r *repo) openOften(d digest.Digest) (*storage.Blob, error) {
	key := smallKey{r.name, d}
	c, kept, keep := r.store.small.get(key)
	switch {
	case kept:
		fi, err := r.stat(d)
		if err == nil && stampOf(fi) == c.stamp {
			return &storage.Blob{Descriptor: blobDescriptor(d, c.stamp.size), ReadSeekCloser: inMemory{bytes.NewReader(c.data)}}, nil
		}
		r.store.small.drop(key)
	case keep:
		return r.openAndKeep(key)
	}
	return r.open(d)
}

// openAndKeep opens a blob, and keeps what it holds if it's small, and a change of
// its file would show.
func (r *repo) openAndKeep(key smallKey) (*storage.Blob, error) {
	b, fi, err := r.openSound(key.digest)
	if err != nil {
		return nil, err
	}
	stamp := stampOf(fi)
	if b.Size > smallBlob || !r.isSettled(stamp) {
		return b, nil
	}
	data := make([]byte, b.Size)
	_, err = io.ReadFull(b, data)
	if err = errors.Join(err, b.Close()); err != nil {
		return nil, err
	}
	key.digest = digest.Digest(strings.Clone(string(key.digest)))
	r.store.small.put(key, smallContent{stamp, data})
	b.ReadSeekCloser = inMemory{bytes.NewReader(data)}
	return b, nil
}

// isSettled reports whether a file has been as it is for so long that another change
// would show: times of files may be as coarse as some milliseconds, and some systems
// tell none of a change.
func (r *repo) isSettled(stamp fileStamp) bool {
	return telling && time.Since(time.Unix(0, stamp.ctime)) > r.store.opts.Load().machine.settling()
}

// inMemory is content that needs no closing.
type inMemory struct{ *bytes.Reader }

// Close implements io.Closer.
func (inMemory) Close() error { return nil }
