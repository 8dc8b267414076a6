//go:build real

package s3_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/test/remote"
)

// races are clients that fight for tags: each creates, puts, deletes or asks for
// the same one as the others.
type races struct {
	cluster *cluster
	enough  func() bool

	turn  atomic.Int64 // how many things were done
	began sync.Once
	start time.Time

	mu      sync.Mutex
	history map[string][]porcupine.Operation // by tag
	unknown int
}

// perTag is how much is done to one tag: to find an order takes longer with each.
const perTag = 24

// act is what is done to a tag.
type act struct {
	do    string
	value digest.Digest
}

// outcome is what one was told.
type outcome struct {
	unknown bool // nothing, or that it's not known
	failed  bool
	value   digest.Digest
}

func (r *races) now() int64 {
	r.began.Do(func() { r.start = time.Now() })
	return time.Since(r.start).Nanoseconds()
}

func (r *races) run(client int) {
	random := rand.New(rand.NewPCG(3, uint64(client)))
	for !r.enough() && r.cluster.t.Context().Err() == nil {
		n := r.turn.Add(1)
		tag := fmt.Sprint("t", n/perTag)
		raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"n":"%d"}}`, n)
		in := act{[]string{"create", "create", "create", "put", "delete", "read", "read"}[random.IntN(7)], digest.FromString(raw)}
		op := porcupine.Operation{ClientId: client, Input: in, Call: r.now()}
		out := r.try(in.do, tag, raw)
		op.Output, op.Return = out, r.now()
		r.mu.Lock()
		if out.unknown {
			op.Return = math.MaxInt64
			r.unknown++
		}
		if r.history == nil {
			r.history = make(map[string][]porcupine.Operation)
		}
		r.history[tag] = append(r.history[tag], op)
		r.mu.Unlock()
	}
}

// try does something to a tag, and says what it was told.
func (r *races) try(do, tag, raw string) outcome {
	method, body, header := http.MethodPut, raw, []string{"Content-Type", "application/vnd.oci.image.index.v1+json"}
	fails := 0
	switch do {
	case "create":
		header, fails = append(header, "If-None-Match", "*"), http.StatusPreconditionFailed
	case "delete":
		method, body, fails = http.MethodDelete, "", http.StatusNotFound
	case "read":
		method, body, fails = http.MethodHead, "", http.StatusNotFound
	}
	resp, err := r.cluster.balancer.Do(r.cluster.t.Context(), method, "/v2/race/manifests/"+tag, strings.NewReader(body), header...)
	status := 0
	if err == nil {
		err = resp.Body.Close()
	} else {
		status = remote.Status(err)
	}
	switch {
	case err == nil && do == "read":
		return outcome{value: digest.Digest(resp.Header.Get("Docker-Content-Digest"))}
	case err == nil:
		return outcome{}
	case status == fails && fails != 0:
		return outcome{failed: true}
	case status >= http.StatusInternalServerError, status == 0:
		return outcome{unknown: true}
	}
	r.cluster.t.Errorf("%s %s: %v", do, tag, err)
	return outcome{unknown: true}
}

// tagModel is a tag as its clients are promised it. Init is no manifest.
var tagModel = porcupine.Model{
	Init: func() any { return digest.Digest("") },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(digest.Digest), input.(act), output.(outcome)
		switch in.do {
		case "read":
			return out.unknown || out.value == now, now
		case "put":
			return true, in.value
		case "delete":
			return out.unknown || out.failed == (now == ""), digest.Digest("")
		}
		if now != "" {
			return out.unknown || out.failed, now
		}
		return out.unknown || !out.failed, in.value
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " → ", output) },
}

// check fails the test if what was said of a tag can't have happened in any order.
func (r *races) check() {
	t, ops := r.cluster.t, 0
	t.Helper()
	for tag, history := range r.history {
		ops += len(history)
		switch result := porcupine.CheckOperationsTimeout(tagModel, history, 20*time.Second); result {
		case porcupine.Ok:
		case porcupine.Illegal:
			t.Errorf("what was said of %s can't have been in any order:\n%s", tag, described(history))
		default:
			t.Errorf("%s: no order was found in time: %s", tag, result)
		}
	}
	t.Logf("%d things were done to %d tags, and of %d nobody knows what came of it", ops, len(r.history), r.unknown)
	if ops < perTag || ops < 3*r.unknown {
		t.Error("that's too little to say anything")
	}
}

func described(history []porcupine.Operation) string {
	var b strings.Builder
	for _, op := range history {
		fmt.Fprintf(&b, "%d to %d, client %d: %s\n", op.Call, op.Return, op.ClientId, tagModel.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}
