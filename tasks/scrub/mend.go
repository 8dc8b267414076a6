package scrub

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

const (
	// searches is how often a round looks through all repositories for one blob, as
	// soon as it's in quarantine. If there are more, others wait until all was
	// checked, and are looked for together.
	searches = 16

	// wantedAtOnce is how many are looked for together. Others wait for the next round.
	wantedAtOnce = 100_000
)

// wanted are the repositories that wait for the bytes of a digest.
type wanted map[digest.Digest][]*ward

// search gives back what has just been taken out, if another repository has it,
// and returns which one.
func (w *ward) search(ctx context.Context, d digest.Digest) (from string, err error) {
	if w.searched >= searches || w.vain[d] {
		return "", nil
	}
	w.searched++
	err = w.mend(ctx, wanted{d: {w}}, func(_ *ward, _ digest.Digest, by oci.Name) { from = by.String() })
	w.vain[d] = err == nil && from == ""
	return from, err
}

// mendAll repairs what is in quarantine, also since earlier rounds.
func (r *round) mendAll(ctx context.Context) error {
	all, n := make(wanted), 0
	err := r.eachWard(ctx, func(w *ward) error {
		for d, err := range w.repository.Quarantined(ctx) {
			if err != nil {
				return err
			}
			if n < wantedAtOnce && !r.vain[d] {
				all[d] = append(all[d], w)
				n++
			}
		}
		return nil
	})
	if err != nil || n == 0 {
		return err
	}
	return r.mend(ctx, all, func(w *ward, d digest.Digest, by oci.Name) {
		_ = w.readGraph(ctx) // else nobody knows the tags, and if it's stopped, that's seen next
		w.tell(d, Finding{Fault: Damaged, Done: Repaired, From: by.String()})
	})
}

// eachWard goes through all repositories. One that fails is left out.
func (r *round) eachWard(ctx context.Context, do func(*ward) error) error {
	for name, err := range r.store.Repositories(ctx, oci.Name{}) {
		if err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
		w, err := r.enter(name)
		if err != nil {
			return err
		}
		if err = do(w); errors.Is(err, errFoundAll) {
			return nil
		}
		if err != nil {
			if err = r.ends(ctx, err); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

var errFoundAll = errors.New("nothing is looked for any more")

// mend looks for bytes in all repositories, reads them, and gives them to those that
// wait for them.
func (r *round) mend(ctx context.Context, all wanted, mended func(to *ward, d digest.Digest, from oci.Name)) error {
	return r.eachWard(ctx, func(from *ward) error {
		for c, err := range from.repository.Contents(ctx) {
			if err == nil && len(all[c.Digest]) > 0 {
				err = r.offer(ctx, all, from, c, mended)
			}
			if err != nil {
				return err
			}
		}
		if len(all) == 0 {
			return errFoundAll
		}
		return nil
	})
}

// offer gives what is wanted to all that wait for it, if it's right.
func (r *round) offer(ctx context.Context, all wanted, from *ward, c storage.Content, mended func(*ward, digest.Digest, oci.Name)) error {
	good, err := r.isGood(ctx, from, c)
	if err != nil || !good {
		return err
	}
	if err := r.mayChange(); err != nil {
		return err
	}
	all.take(c.Digest, func(to *ward) error {
		_, err := to.repository.MountBlob(ctx, c.Digest, from.name)
		if err == nil {
			mended(to, c.Digest, from.name)
		}
		return err
	})
	return nil
}

// take gives a digest to all that wait for it. Those to whom that fails wait on.
func (all wanted) take(d digest.Digest, give func(*ward) error) {
	var rest []*ward
	for _, to := range all[d] {
		if give(to) != nil {
			rest = append(rest, to)
		}
	}
	if all[d] = rest; len(rest) == 0 {
		delete(all, d)
	}
}

// isGood reads a blob, unless it's known to be bad. One that was right before may have
// rotted since, and a mount that shares bytes doesn't read them. One that can't be read
// isn't good.
func (r *round) isGood(ctx context.Context, from *ward, c storage.Content) (bool, error) {
	if r.wrong[claimOf(c)] {
		return false, nil
	}
	right, err := from.read(ctx, c.Digest, io.Discard)
	if err == nil && right {
		r.remember(c)
	}
	if err != nil {
		return false, r.ends(ctx, err)
	}
	return right, nil
}
