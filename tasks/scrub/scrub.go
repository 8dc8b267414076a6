// Package scrub reads all that a store holds, while it serves, and compares it
// with what it's called.
//
// What isn't what it's called goes into quarantine, so that the next push heals it
// (see storage.Quarantiner), and is repaired at once if another repository has the
// bytes. What manifests name and isn't there is only told of: a repository never
// gets bytes that it hasn't had, since whoever pushed the manifest might not have
// been allowed to read them.
//
// Bytes that lie in one place for many repositories are read once a round, as far
// as that's remembered: see Options.Remember. Beside it, in memory is what one
// repository holds and what its manifests name.
package scrub

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Options say how a round is done.
type Options struct {
	// DryRun changes nothing: it only tells what is wrong.
	DryRun bool

	// Wait is called before n bytes are read. An error ends the round. Default:
	// nobody waits.
	Wait func(ctx context.Context, n int) error

	// Stop is asked before anything is changed, and its error ends the round. A dry run
	// doesn't ask. Default: never.
	Stop func() error

	// Checked is told of each object that was read and is right. Default: nobody is.
	Checked func(bytes int64)

	// Found is told of each thing that is wrong. Default: nobody is.
	Found func(Finding)

	// Remember is of how many objects it's remembered that they are right; beyond,
	// all are forgotten, and those that more repositories share are read again.
	// Default: 1,000,000, which take some 20 MB.
	Remember int
}

// Finding is something that a round has found to be wrong.
type Finding struct {
	Kind Kind `json:"kind"`

	// Repository is where.
	Repository string `json:"repository"`

	// Name is what: a digest; a repository's name again.
	Name string `json:"name"`

	// Tags are those that lead to it, at most 100.
	Tags []string `json:"tags,omitempty"`

	// MoreTags is how many more there are.
	MoreTags int `json:"more_tags,omitempty"`

	// Fault is what is wrong.
	Fault Fault `json:"fault"`

	// Done is what was done about it. Empty: nothing.
	Done Done `json:"done,omitempty"`

	// From is what it was repaired from: a repository.
	From string `json:"from,omitempty"`

	// Problem is what was in the way, if something was.
	Problem string `json:"problem,omitempty"`
}

// Kind says what was found.
type Kind string

// The kinds of things that are found.
const (
	Blob       Kind = "blob"
	Manifest   Kind = "manifest"
	Repository Kind = "repository"
)

// Fault says what is wrong with a thing.
type Fault string

// The faults.
const (
	Damaged    Fault = "damaged"    // its bytes aren't what it's called, or are gone
	Missing    Fault = "missing"    // it's named, and isn't there
	Unreadable Fault = "unreadable" // it's there, and can't be read
)

// Done says what was done.
type Done string

// What may be done.
const (
	Quarantined Done = "quarantined" // it isn't there until it's pushed again
	Repaired    Done = "repaired"    // by other bytes that the store had
)

func (o Options) withDefaults() Options {
	if o.Wait == nil {
		o.Wait = func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	if o.Stop == nil {
		o.Stop = func() error { return nil }
	}
	if o.Checked == nil {
		o.Checked = func(int64) {}
	}
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	if o.Remember <= 0 {
		o.Remember = 1_000_000
	}
	return o
}

// Scrub does a round from a place on. It calls at with the places it comes to, for
// a round that is stopped to go on there. What is wrong with one thing stops no
// round, but a store that isn't ready does.
//
// Each bad object is told of once a round and repository. One for which the bytes
// turn up later is told of again, as repaired: see searches.
func Scrub(ctx context.Context, s storage.Store, from Place, at func(Place), opts Options) error {
	r := &round{
		store: s, opts: opts.withDefaults(), at: at, seed: maphash.MakeSeed(), buf: make([]byte, chunk),
		right: make(map[uint64]struct{}), wrong: make(map[claim]bool), vain: make(map[digest.Digest]bool),
	}
	if !from.mending {
		if err := r.visitAll(ctx, from); err != nil {
			return err
		}
		if err := r.ends(ctx, nil); err != nil { // who has moved the root has left us what was open
			return err
		}
		if err := r.tellBroken(ctx); err != nil {
			return err
		}
		at(Place{mending: true})
	}
	if opts.DryRun {
		return nil
	}
	return r.mendAll(ctx)
}

// round is one round. One goroutine does it.
type round struct {
	store storage.Store
	opts  Options
	at    func(Place)
	buf   []byte

	seed  maphash.Seed
	right map[uint64]struct{}    // hashes of claims that are; one in 10^13 is taken for another, in this round
	wrong map[claim]bool         // those that aren't
	vain  map[digest.Digest]bool // what no repository has, as far as was seen
	// searched is how often all repositories were looked through for something.
	searched int
}

func (r *round) visitAll(ctx context.Context, from Place) error {
	if from.Digest != "" {
		if err := r.visit(ctx, from.Repository, from.Digest); err != nil {
			return err
		}
	}
	for name, err := range r.store.Repositories(ctx, from.Repository) {
		if err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
		if err := r.visit(ctx, name, ""); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// visit checks a repository, and returns an error only if the round has to end.
func (r *round) visit(ctx context.Context, name oci.Name, after digest.Digest) error {
	w, err := r.enter(name)
	if err != nil {
		return err
	}
	err = w.check(ctx, after)
	if errors.Is(err, oci.NameUnknown) { // it's gone
		err = nil
	}
	if err != nil {
		if err := r.ends(ctx, err); err != nil {
			return err
		}
		r.opts.Found(Finding{Kind: Repository, Repository: name.String(), Name: name.String(), Fault: Unreadable, Problem: err.Error()})
	}
	r.at(Place{Repository: name})
	return nil
}

// tellBroken tells of repositories whose names can't be read, and whose last good
// ones are served: that they were, visiting them hasn't shown.
func (r *round) tellBroken(ctx context.Context) error {
	s, ok := storage.As[storage.Restorer](r.store)
	if !ok {
		return nil
	}
	broken, err := s.Broken(ctx)
	for _, b := range broken {
		if b.LastGood {
			r.opts.Found(Finding{
				Kind: Repository, Repository: b.Name.String(), Name: b.Name.String(), Fault: Damaged, Problem: b.Cause.Error(),
			})
		}
	}
	return err
}

// enter returns a repository's ward.
func (r *round) enter(name oci.Name) (*ward, error) {
	q, ok := storage.As[storage.Quarantiner](r.store.Repository(name))
	if !ok {
		return nil, fmt.Errorf("scrub %s: %w", name, errors.ErrUnsupported)
	}
	return &ward{round: r, name: name, repository: q}, nil
}

// errEnd ends a round, whatever there is left to do.
var errEnd = errors.New("the round is stopped")

// mayChange returns why nothing may be changed, which ends the round.
func (r *round) mayChange() error {
	if err := r.opts.Stop(); err != nil {
		return errors.Join(errEnd, err)
	}
	return nil
}

// ends returns why the round ends, if it does because something has failed: it was
// stopped, or the store itself is what is wrong.
func (r *round) ends(ctx context.Context, failed error) error {
	if errors.Is(failed, errEnd) {
		return failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.store.Ready(ctx); err != nil && !errors.Is(err, storage.ErrFull) {
		return fmt.Errorf("the store isn't ready: %w", err)
	}
	return nil
}

// claim is that an object has the bytes of a digest. One that's right may lie under
// other digests too, if somebody has linked a file to a wrong name.
type claim struct {
	object string // if it's known
	digest digest.Digest
}

func claimOf(c storage.Content) claim { return claim{c.Object, c.Digest} }

func (r *round) isRight(c storage.Content) bool {
	_, ok := r.right[maphash.Comparable(r.seed, claimOf(c))]
	return ok && c.Object != ""
}

func (r *round) remember(c storage.Content) {
	if c.Object == "" {
		return
	}
	if len(r.right) >= r.opts.Remember {
		clear(r.right)
	}
	r.right[maphash.Comparable(r.seed, claimOf(c))] = struct{}{}
}
