package scrub_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/tasks/scrub"
)

// counting is a store that counts how often all tags of a repository were asked for.
type counting struct {
	storage.Store

	listed *int
}

func (s counting) Repository(n oci.Name) storage.Repository {
	q, _ := s.Store.Repository(n).(storage.Quarantiner)
	return counted{q, s.listed}
}

type counted struct {
	storage.Quarantiner

	listed *int
}

func (r counted) Index(ctx context.Context) (storage.Index, error) {
	idx, err := r.Quarantiner.Index(ctx)
	return countedIndex{idx, r.listed}, err
}

type countedIndex struct {
	storage.Index

	listed *int
}

func (i countedIndex) Tags(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor] {
	*i.listed++
	return i.Index.Tags(after)
}

// All tags are listed once, however much is missing, and a stop is heeded between two
// things that are.
func TestMuchThatIsMissing(t *testing.T) {
	t.Parallel()
	const n = 100
	w := newWorld(t)
	lost := make([]digest.Digest, n)
	for i := range lost {
		lost[i] = digest.FromString(fmt.Sprint("lost ", i))
	}
	w.put("a", "b", imageOf(t, lost...))
	w.put("a", "a", imageOf(t, lost[:n/2]...))
	listed := 0
	w.Store = counting{w.Store, &listed}
	w.scrub(scrub.Options{})
	if len(w.found) != n || listed != 1 {
		t.Fatalf("%d were found and all tags listed %d times, want %d and once", len(w.found), listed, n)
	}
	for _, f := range w.found {
		tags := []string{"b"}
		if slices.Contains(lost[:n/2], digest.Digest(f.Name)) {
			tags = []string{"a", "b"}
		}
		if f.Fault != scrub.Missing || !slices.Equal(f.Tags, tags) || f.MoreTags != 0 {
			t.Fatalf("found %+v, want it of %v", f, tags)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	found := 0
	err := scrub.Scrub(ctx, w.Store, scrub.Place{}, func(scrub.Place) {}, scrub.Options{Found: func(scrub.Finding) {
		found++
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || found != 1 {
		t.Fatalf("after the first one %d more were found: %v", found-1, err)
	}
}
