// Package gc removes from a store what nothing needs, while it serves.
//
// A tag needs its manifest. A manifest needs the blobs, children and subject that
// it names, and its referrers are needed as it is. What nothing needs is marked,
// and goes once the mark has been on it for a grace; who is told meanwhile that it
// is there takes the mark off, and so does who pushes what needs it (see
// storage.Collectable). So no lock is held while manifests are read.
//
// Nothing goes that isn't understood. A manifest that can't be read keeps all blobs
// of its repository, and one of a type that isn't known is needed.
package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// MinGrace is the smallest grace: a client has as long to push what needs a blob
// that it was told is there.
const MinGrace = time.Minute

// Options say what a round removes.
type Options struct {
	// Grace is how long blobs, upload sessions and left-overs stay that nothing
	// needs. Default: 24 hours. At least MinGrace.
	Grace time.Duration

	// UntaggedGrace is how long a manifest stays by its digest that nothing needs.
	// Default: 14 days. At least MinGrace.
	UntaggedGrace time.Duration

	// KeepUntagged keeps manifests that nothing needs: what was pushed without a tag,
	// or has lost it, stays until somebody deletes it. Default: false.
	KeepUntagged bool

	// DanglingReferrers has referrers go as other manifests do whose subject isn't
	// there. Default: they're needed, since they may come before their subject.
	DanglingReferrers bool

	// DryRun changes nothing: it only tells what would go, and when.
	DryRun bool

	// Renew sets all marks anew and removes nothing: after the clock was set, they don't
	// say for how long something has been garbage.
	Renew bool

	// Wait is called before n units of I/O, each a manifest that's read or a thing
	// that's removed. An error ends the round. Default: nobody waits.
	Wait func(ctx context.Context, n int) error

	// Stop is asked before anything is removed, and its error ends the round. It's for
	// clocks that have moved. Default: never.
	Stop func() error

	// Now is the time. Default: time.Now.
	Now func() time.Time

	// Found is told of each thing that went, or would in a dry run, and of each that
	// is wrong. Default: nobody is.
	Found func(Finding)
}

// Finding is something that a round has found.
type Finding struct {
	Kind Kind `json:"kind"`

	// Repository is where; empty for what lies in none.
	Repository string `json:"repository,omitempty"`

	// Name is what: a digest, an upload session, a file.
	Name string `json:"name"`

	// Size is in bytes, as far as it's known.
	Size int64 `json:"size,omitempty"`

	// Due is when it goes at the soonest, in a dry run. What is swept would go now.
	Due time.Time `json:"due,omitzero"`

	// Problem says what is wrong, if something is. Nothing was removed then.
	Problem string `json:"problem,omitempty"`
}

// Kind says what was found.
type Kind string

// The kinds of things that are found.
const (
	Blob       Kind = "blob"
	Manifest   Kind = "manifest"
	Repository Kind = "repository" // that held nothing
	Upload     Kind = "upload"
	Leftover   Kind = "leftover"
)

func (o Options) withDefaults() (Options, error) {
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	if o.UntaggedGrace == 0 {
		o.UntaggedGrace = 14 * 24 * time.Hour
	}
	if o.Grace < MinGrace || o.UntaggedGrace < MinGrace {
		return o, fmt.Errorf("a grace of less than %v is too short for a push", MinGrace)
	}
	if o.Wait == nil {
		o.Wait = func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	if o.Stop == nil {
		o.Stop = func() error { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	return o, nil
}

// Collect does a round in the repositories after a name, and then sweeps what
// lies in none. done is called with each repository that's done, for a round that
// is stopped to go on behind it. One in which something is wrong stops no round.
func Collect(ctx context.Context, s storage.Store, after oci.Name, done func(oci.Name), opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	for name, err := range s.Repositories(ctx, after) {
		if err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
		if err := collect(ctx, s, name, opts); err != nil {
			if ctx.Err() != nil || errors.Is(err, errStop) {
				return err
			}
			opts.Found(Finding{Kind: Repository, Repository: name.String(), Name: name.String(), Problem: err.Error()})
		}
		done(name)
	}
	return sweep(ctx, s, opts)
}

// errStop ends a round, whatever there is left to do.
var errStop = errors.New("the round is stopped")

// mayRemove is asked before anything goes.
func (o Options) mayRemove(ctx context.Context, n int) error {
	if err := o.Stop(); err != nil {
		return errors.Join(errStop, err)
	}
	return o.Wait(ctx, n)
}

func sweep(ctx context.Context, s storage.Store, opts Options) error {
	sweeper, ok := storage.As[storage.Sweeper](s)
	if !ok || opts.Renew {
		return nil
	}
	if err := opts.mayRemove(ctx, 1); err != nil {
		return err
	}
	kinds := map[storage.SweptKind]Kind{storage.SweptUpload: Upload, storage.SweptBlob: Blob, storage.SweptLeftover: Leftover}
	for what, err := range sweeper.Sweep(ctx, storage.SweepOptions{Before: opts.Now().Add(-opts.Grace), Dry: opts.DryRun, Wait: opts.Wait}) {
		if err != nil {
			opts.Found(Finding{Kind: Leftover, Problem: err.Error()})
			continue
		}
		opts.Found(Finding{Kind: kinds[what.Kind], Name: what.Name, Size: what.Size})
		if err := opts.mayRemove(ctx, 1); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// perUpdate is how many things change at once.
const perUpdate = 200

// collect does one repository.
func collect(ctx context.Context, s storage.Store, name oci.Name, opts Options) error {
	r, ok := storage.As[storage.Collectable](s.Repository(name))
	if !ok {
		return fmt.Errorf("%s: %w", name, errors.ErrUnsupported)
	}
	c := &collector{repository: r, opts: opts, begun: opts.Now()}
	return c.collect(ctx)
}
