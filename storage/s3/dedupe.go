package s3

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// holding says that a record names data for a blob. There may be millions, so it's small.
type holding struct {
	content [16]byte // of the hash of the digest
	id      [idSize]byte
	size    int64
	record  uint32 // its place among the names
}

// holdings are what all records name, as far as it may be in several objects.
type holdings struct {
	names  []oci.Name
	all    []holding
	begun  map[oci.Name]map[string]string // by data: the other one, to which somebody has begun to move
	proofs proofs
}

// proofs are what was found out about data to which blobs are to be moved, by its ID.
type proofs map[string]proof

type proof struct {
	right  bool
	rotten digest.Digest // what its bytes should be and aren't; "" if they're right, or gone
	told   bool          // that it's rotten
}

// add notes what a record names. Data from whose beginning a blob is may be that blob alone.
func (h *holdings) add(name oci.Name, s *state) {
	h.names = append(h.names, name)
	for key, b := range s.blobs.All() {
		if b.inline() || b.Unsure || b.Offset > 0 || len(b.ID) != idSize {
			continue
		}
		sum := sha256.Sum256([]byte(key))
		one := holding{size: b.Size, record: uint32(len(h.names) - 1)} //nolint:gosec // so many don't fit into memory
		copy(one.content[:], sum[:])
		copy(one.id[:], b.ID)
		h.all = append(h.all, one)
		if b.Also != "" {
			h.begin(name, b.ID, b.Also)
		}
	}
}

func (h *holdings) begin(name oci.Name, id, to string) {
	if h.begun == nil {
		h.begun = make(map[oci.Name]map[string]string)
	}
	if h.begun[name] == nil {
		h.begun[name] = make(map[string]string)
	}
	h.begun[name][id] = to
}

// dedupe makes the records that name one blob in several objects name the oldest
// of these whose bytes are right. The others are condemned when a later round finds
// nothing that names them.
func (w *sweep) dedupe(ctx context.Context) {
	if w.dry {
		return
	}
	w.held.proofs = make(proofs)
	for again := true; again && ctx.Err() == nil && !w.stopped; again = w.leaveRotten() {
		w.findCopies(ctx)
		w.moveBegun(ctx)
	}
}

// leaveRotten tells of objects that were found to have rotted, and leaves what
// others are copies of to be looked at once more.
func (w *sweep) leaveRotten() (any bool) {
	contents := make(map[[16]byte]bool)
	for _, h := range w.held.all {
		if r := w.held.proofs[string(h.id[:])]; r.rotten != "" && !r.told {
			contents[h.content] = true
		}
	}
	w.held.all = slices.DeleteFunc(w.held.all, func(h holding) bool { return !contents[h.content] })
	for id, r := range w.held.proofs {
		if r.rotten != "" && !r.told {
			w.fail(fmt.Errorf("dedupe: %s hasn't the bytes of %s any more", w.store.keys.data(id), r.rotten))
			r.told = true
			w.held.proofs[id] = r
		}
	}
	return len(contents) > 0
}

// moveBegun does the moves that are begun.
func (w *sweep) moveBegun(ctx context.Context) {
	begun := w.held.begun
	w.held.begun = nil
	for _, name := range slices.SortedFunc(maps.Keys(begun), oci.Name.Compare) {
		moves := begun[name]
		for ids := range slices.Chunk(slices.Sorted(maps.Keys(moves)), movesAtOnce) {
			if ctx.Err() != nil || w.stopped {
				return
			}
			some := make(map[string]string, len(ids))
			for _, id := range ids {
				some[id] = moves[id]
			}
			if w.wait(ctx, 1) != nil {
				return
			}
			if err := w.store.move(ctx, name, some, w.held.proofs, w.wait); err != nil {
				w.fail(fmt.Errorf("dedupe %s: %w", name, err))
			}
		}
	}
}

// waiting is called before n units of I/O, as the Wait of storage.SweepOptions is.
type waiting func(ctx context.Context, n int) error

// movesAtOnce is how many blobs of one record are moved by one change of it.
const movesAtOnce = 200

// findCopies adds to what is begun.
func (w *sweep) findCopies(ctx context.Context) {
	all := w.held.all
	slices.SortFunc(all, func(a, b holding) int {
		return cmp.Or(slices.Compare(a.content[:], b.content[:]), slices.Compare(a.id[:], b.id[:]))
	})
	for len(all) > 0 && ctx.Err() == nil && !w.stopped {
		n := 1
		for n < len(all) && all[n].content == all[0].content {
			n++
		}
		if all[0].id != all[n-1].id {
			w.findCopy(ctx, all[:n])
		}
		all = all[n:]
	}
}

// findCopy finds out which of the objects that have one content is the oldest. One
// that is condemned, though somebody has come to name it, isn't to be named by more,
// nor is one that has rotted.
func (w *sweep) findCopy(ctx context.Context, same []holding) {
	whole := make(map[string]bool)
	oldest := listed{}
	for i, h := range same {
		if i > 0 && h.id == same[i-1].id {
			continue
		}
		if w.wait(ctx, 1) != nil {
			return
		}
		id := string(h.id[:])
		o, err := w.store.bucket.stat(ctx, w.store.keys.data(id))
		if err != nil || o.Size != h.size { // it's gone meanwhile, or has other things too
			continue
		}
		whole[id] = true
		_, condemned := w.condemned[id]
		if !condemned && w.held.proofs[id].rotten == "" && (oldest.Key == "" || o.Modified.Before(oldest.Modified)) {
			oldest = o
		}
	}
	if oldest.Key == "" {
		return
	}
	for _, h := range same {
		if id := string(h.id[:]); whole[id] && w.store.keys.data(id) != oldest.Key {
			w.held.begin(w.held.names[h.record], id, oldest.Key[len(w.store.keys.data("")):])
		}
	}
}

// move makes a record name other data for its blobs. First it names both; then
// it's asked whether the other one stays, as a mount does; and then it names one
// of them. So whatever happens in between, what it names is there. Nothing is moved
// to data that hasn't the right bytes any more; found is what is known of that. wait
// is called before and while bytes are read.
func (s *Store) move(ctx context.Context, name oci.Name, to map[string]string, found proofs, wait waiting) error {
	done, err := s.begin()
	if err != nil {
		return err
	}
	defer done()
	r := s.cache.acquire(s, name)
	defer s.cache.release(r)
	if err := s.readCopies(ctx, r, to, found, wait); err != nil {
		return err
	}
	named := make(map[digest.Digest]entry)
	err = r.change(ctx, func(now *state) (changes []change, _ string, _ error) {
		clear(named)
		for key, b := range now.blobs.All() {
			other, ok := to[b.ID]
			if !ok || b.inline() || b.Unsure || b.Offset > 0 || !found[other].right && b.Also != other {
				continue
			}
			e := b.entry
			e.Also = other
			named[digest.Digest(key)] = e
			if b.Also != other {
				changes = append(changes, change{Blob: digest.Digest(key), entry: e, Since: b.marked})
			}
		}
		return changes, "", nil
	})
	if err != nil || len(named) == 0 {
		return err
	}
	return s.decide(ctx, r, named, found)
}

// readCopies finds out whether the data to which blobs are to be moved has their bytes.
func (s *Store) readCopies(ctx context.Context, r *repo, to map[string]string, found proofs, wait waiting) error {
	now, err := r.refresh(ctx)
	if err != nil {
		return err
	}
	reader := &Repository{s, r.name}
	for key, b := range now.blobs.All() {
		other, ok := to[b.ID]
		if _, known := found[other]; !ok || known {
			continue
		}
		if err := wait(ctx, 1); err != nil {
			return err
		}
		there, right, err := reader.check(ctx, digest.Digest(key), entry{ID: other, Size: b.Size}, wait)
		if err != nil {
			return err
		}
		one := proof{right: right}
		if there && !right {
			one.rotten = digest.Digest(key)
		}
		found[other] = one
	}
	return nil
}

// decide ends a move. An entry that isn't as it was named is somebody else's by now.
func (s *Store) decide(ctx context.Context, r *repo, named map[digest.Digest]entry, found proofs) error {
	stays, errs := make(map[string]bool), []error(nil)
	for _, e := range named {
		if _, known := stays[e.Also]; known {
			continue
		}
		there, err := s.stays(ctx, e.Also)
		stays[e.Also], errs = there && err == nil && found[e.Also].right, append(errs, err)
	}
	return errors.Join(append(errs, r.change(ctx, func(now *state) (changes []change, _ string, _ error) {
		for d, e := range named {
			b, ok := now.blobs.Get(byDigest(d))
			if !ok || b.ID != e.ID || b.Also != e.Also {
				continue
			}
			one := entry{ID: e.ID, Size: e.Size}
			if stays[e.Also] {
				one.ID = e.Also
			}
			changes = append(changes, change{Blob: d, entry: one, Since: b.marked})
		}
		return changes, "", nil
	}))...)
}
