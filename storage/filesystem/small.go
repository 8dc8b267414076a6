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

// get returns the content of a file. If there's none, keep says whether it's worth
// keeping.
func (s *smallBlobs) get(key smallKey, stamp fileStamp) (data []byte, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lru == nil {
		s.lru, _ = simplelru.NewLRU(smallBytes, func(_ smallKey, c smallContent) { s.bytes -= len(c.data) }) // it's positive
		s.seed = maphash.MakeSeed()
	}
	if c, ok := s.lru.Get(key); ok {
		if c.stamp == stamp {
			return c.data, false
		}
		s.lru.Remove(key)
	}
	h := maphash.Comparable(s.seed, key)
	slot, mark := &s.read[h%uint64(len(s.read))], uint32(h>>32)
	keep, *slot = *slot == mark, mark
	return nil, keep
}

func (s *smallBlobs) put(key smallKey, c smallContent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lru.Remove(key) // another one may have put it
	s.lru.Add(key, c)
	for s.bytes += len(c.data); s.bytes > smallBytes; {
		s.lru.RemoveOldest()
	}
}

// openOften is open, of what may be in memory.
func (r *repo) openOften(d digest.Digest) (*storage.Blob, error) {
	fi, err := r.stat(d)
	if err != nil {
		return nil, err
	}
	if fi.Size() > smallBlob || !telling {
		return r.open(d)
	}
	key := smallKey{r.name, d}
	stamp := stampOf(fi)
	data, keep := r.store.small.get(key, stamp)
	switch {
	case data != nil:
		return &storage.Blob{Descriptor: blobDescriptor(d, int64(len(data))), ReadSeekCloser: inMemory{bytes.NewReader(data)}}, nil
	case !keep:
		return r.open(d)
	}
	return r.openAndKeep(key, stamp)
}

// openAndKeep reads a blob, and keeps what it has read if that's of the file that
// has this stamp.
func (r *repo) openAndKeep(key smallKey, stamp fileStamp) (*storage.Blob, error) {
	b, err := r.open(key.digest)
	if err != nil {
		return nil, err
	}
	data := make([]byte, b.Size)
	_, err = io.ReadFull(b, data)
	if err = errors.Join(err, b.Close()); err != nil {
		return nil, err
	}
	// If it was replaced or written to meanwhile, this isn't known to be what it holds.
	if fi, err := r.stat(key.digest); err == nil && stampOf(fi) == stamp && stamp.size == b.Size && r.isSettled(stamp) {
		key.digest = digest.Digest(strings.Clone(string(key.digest)))
		r.store.small.put(key, smallContent{stamp, data})
	}
	b.ReadSeekCloser = inMemory{bytes.NewReader(data)}
	return b, nil
}

// isSettled reports whether a file has been as it is for so long that another change
// would show: times of files may be as coarse as some milliseconds.
func (r *repo) isSettled(stamp fileStamp) bool {
	return time.Since(time.Unix(0, stamp.ctime)) > r.store.opts.Load().machine.settling()
}

// inMemory is content that needs no closing.
type inMemory struct{ *bytes.Reader }

// Close implements io.Closer.
func (inMemory) Close() error { return nil }
