package filesystem

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
)

// repo is what a process knows of one repository. All Repository values of one
// name share it.
type repo struct {
	store  *Store
	name   oci.Name
	number uint64 // from 1 on; no other repo of the store has it

	users int           // guarded by repoSet.mu
	place *list.Element // in repoSet.order, as long as it's known

	state atomic.Pointer[state] // what its names mean; nil if that has to be read

	queueMu sync.Mutex
	queue   []*update // changes that wait for the next batch

	commitMu sync.Mutex // one batch, load or fold at a time; guards what follows
	log      *wal       // nil if there's none
	changed  time.Time  // of the last commit that index.json or its copy lacks; zero if none
	retry    time.Time  // before it, settling isn't tried again
	marked   bool       // oci-layout is there, if index.json is

	blobsMu sync.RWMutex
	blobs   map[digest.Algorithm]vfs.FS // blobs/<alg>, held open since paths are slow
	looked  atomic.Int64                // when moved last looked, in nanoseconds of the process

	syncMu  sync.Mutex
	unnamed map[digest.Algorithm]bool // blobs/<alg> has names that aren't durable yet

	stageOnce sync.Once
	stage     string // see stageDir

	// bytesMu is held by who takes bad bytes away, and shared by who brings good ones:
	// else what has just come could be taken. It comes after commitMu.
	bytesMu sync.RWMutex
	taken   rareSet[digest.Digest] // that were in quarantine when the names were read, or came there since

	pulls pulls
	marks marks
}

func newRepo(s *Store, name oci.Name) *repo {
	return &repo{
		store: s, name: name,
		blobs:   make(map[digest.Algorithm]vfs.FS),
		unnamed: make(map[digest.Algorithm]bool),
	}
}

// worthKeeping reports whether there's more to r than a name somebody asked for.
func (r *repo) worthKeeping() bool {
	st := r.state.Load()
	return st != nil && st.exists()
}

// release closes the handles; they're opened again when needed.
func (r *repo) release() {
	r.blobsMu.Lock()
	defer r.blobsMu.Unlock()
	for a, fsys := range r.blobs {
		_ = fsys.Close() // read-only use of a directory
		delete(r.blobs, a)
	}
}

// inBlobs calls fn with the tree blobs/<a>, which stays open for the call;
// fs.ErrNotExist if there's none. It calls fn again if that doesn't find
// something in a folder that is another one by now.
func (r *repo) inBlobs(a digest.Algorithm, fn func(vfs.FS) error) error {
	err := r.inOpenBlobs(a, fn)
	if missing(err) && r.mayHaveMoved() && r.moved(a) {
		r.release()
		err = r.inOpenBlobs(a, fn)
	}
	return err
}

// mayHaveMoved bounds how often moved has to look: clients ask for blobs that
// aren't there before they push them.
func (r *repo) mayHaveMoved() bool {
	now, looked := int64(sinceStart()), r.looked.Load()
	return now-looked >= int64(r.store.opts.Load().Recheck) && r.looked.CompareAndSwap(looked, now)
}

// moved reports whether the open tree blobs/<a> isn't what is there under that name.
func (r *repo) moved(a digest.Algorithm) bool {
	r.blobsMu.RLock()
	defer r.blobsMu.RUnlock()
	fsys, ok := r.blobs[a]
	if !ok {
		return false
	}
	open, err := fsys.Stat(".")
	if err != nil {
		return true
	}
	named, err := r.store.fs.Stat(blobDir(r.name, a))
	return err != nil || !vfs.SameFile(open, named)
}

func (r *repo) inOpenBlobs(a digest.Algorithm, fn func(vfs.FS) error) error {
	r.blobsMu.RLock()
	if fsys, ok := r.blobs[a]; ok {
		defer r.blobsMu.RUnlock()
		return fn(fsys)
	}
	r.blobsMu.RUnlock()
	r.blobsMu.Lock()
	defer r.blobsMu.Unlock()
	fsys, ok := r.blobs[a]
	if !ok {
		var err error
		if fsys, err = r.store.fs.Sub(blobDir(r.name, a)); err != nil {
			return err
		}
		r.blobs[a] = fsys
	}
	return fn(fsys)
}

// noteBlob remembers that a blob's name is new, and whether its bytes were synced,
// which is no more than said with Options.Unsynced.
func (r *repo) noteBlob(d digest.Digest, synced bool) {
	r.noteUnnamed(d.Algorithm())
	if synced && !r.store.opts.Load().Unsynced {
		r.store.synced.add(syncedBlob{r.number, d})
	} else {
		r.store.synced.remove(syncedBlob{r.number, d})
	}
}

func (r *repo) noteUnnamed(a digest.Algorithm) {
	r.syncMu.Lock()
	defer r.syncMu.Unlock()
	r.unnamed[a] = true
}

// noteGone forgets that a blob's bytes were durable: nothing has its name any more.
func (r *repo) noteGone(d digest.Digest) { r.store.synced.remove(syncedBlob{r.number, d}) }

func (r *repo) isSynced(d digest.Digest) bool { return r.store.synced.has(syncedBlob{r.number, d}) }
