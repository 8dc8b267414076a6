package ociregistry

import (
	"net/http"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

// meters count what happens at the registries of one name. No label has a value
// that comes from a client.
type meters struct {
	requests       *prometheus.CounterVec
	durations      *prometheus.HistogramVec
	failures       *prometheus.CounterVec
	unasked        prometheus.Counter
	received, sent prometheus.Counter
	pushes, pulls  prometheus.Counter
	removals       *prometheus.CounterVec
	freed          prometheus.Counter
	faults         *prometheus.CounterVec
	scrubbed       prometheus.Counter

	// operations finds those of an operation without looking for them by label.
	// Those that nobody has asked for aren't shown.
	operations map[string]func() *operationMeters
}

// operationMeters are those of one operation.
type operationMeters struct {
	byStatus [len(statusClasses)]prometheus.Counter
	duration prometheus.Observer
}

// statusClasses are the values of the label status.
var statusClasses = [...]string{"2xx", "3xx", "4xx", "5xx", "aborted"}

// failureReasons are the values of the label reason: the words of readiness.
var failureReasons = [...]string{"full", "standby", "broken", "stopping", "unavailable"}

// durationBuckets are in seconds. To look up a name takes less than the first, to
// make something durable one of the next; clients begin to give up at 30. What is
// above is blobs, which take what the client's line takes.
var durationBuckets = []float64{.001, .005, .025, .1, .5, 2.5, 10, 30, 120, 600}

// meterPool has the meters of all registries that a configuration has, by name.
// It outlives configurations, so a reload doesn't set a counter back.
var meterPool = caddy.NewUsagePool()

// acquireMeters returns the meters of the registries called name. Once everybody
// has released them they are forgotten.
func acquireMeters(name string) (m *meters, release func()) {
	shared, _ := meterPool.LoadOrStore(name, newMeters())
	m, _ = shared.(*meters)
	return m, sync.OnceFunc(func() { _, _ = meterPool.Delete(name) }) // meters have nothing to be closed
}

func metricName(name string) string { return prometheus.BuildFQName("caddy", "oci_registry", name) }

func newMeters() *meters {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: metricName(name), Help: help}
	}
	m := &meters{
		requests: prometheus.NewCounterVec(counter("requests_total",
			"Requests served, by operation and by class of status; aborted: the answer didn't get to its end."), []string{"operation", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricName("request_duration_seconds"),
			Help:    "How long requests took, in seconds, the client's sending and receiving included.",
			Buckets: durationBuckets,
		}, []string{"operation"}),
		failures: prometheus.NewCounterVec(counter("failures_total",
			"Requests that failed without a fault of their client, by reason."), []string{"reason"}),
		unasked: prometheus.NewCounter(counter("policy_errors_total",
			"Refusals for which a condition of the policy couldn't be asked.")),
		received: prometheus.NewCounter(counter("received_bytes_total",
			"Bytes of blobs and manifests received, counted when their request ends.")),
		sent: prometheus.NewCounter(counter("sent_bytes_total",
			"Bytes of blobs, manifests and lists sent, counted when their request ends.")),
		pushes: prometheus.NewCounter(counter("pushes_total",
			"Manifests pushed: PUT requests that succeeded.")),
		pulls: prometheus.NewCounter(counter("pulls_total",
			"Manifests pulled: GET requests, not HEAD, that succeeded or found the client's copy current.")),
		removals: prometheus.NewCounterVec(counter("gc_removed_total",
			"Things that the collection of garbage has removed, by kind."), []string{"kind"}),
		freed: prometheus.NewCounter(counter("gc_freed_bytes_total",
			"Bytes of blobs, sessions and left-overs that the collection of garbage has removed. Those that others share are counted, too.")),
		faults: prometheus.NewCounterVec(counter("scrub_faults_total",
			"Things that the scrub has found to be wrong, by fault. Those that it has repaired are counted, too."), []string{"fault"}),
		scrubbed: prometheus.NewCounter(counter("scrub_checked_bytes_total",
			"Bytes that the scrub has read, and that are right.")),
		operations: make(map[string]func() *operationMeters),
	}
	for _, f := range faults {
		m.faults.WithLabelValues(string(f))
	}
	for kind := range counters {
		m.removals.WithLabelValues(string(kind))
	}
	for _, reason := range failureReasons {
		m.failures.WithLabelValues(reason) // shows that there was none so far
	}
	for _, op := range slices.Concat(handler.Operations(), apikey.Operations(), []string{signsIn, signsOut, getsToken, unavailable}) {
		m.operations[op] = sync.OnceValue(func() *operationMeters { return m.operation(op) })
	}
	return m
}

func (m *meters) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.durations, m.failures, m.unasked, m.received, m.sent, m.pushes, m.pulls, m.removals, m.freed, m.faults, m.scrubbed}
}

func (m *meters) operation(name string) *operationMeters {
	o := &operationMeters{duration: m.durations.WithLabelValues(name)}
	for i, class := range statusClasses {
		o.byStatus[i] = m.requests.WithLabelValues(name, class)
	}
	return o
}

// observe counts a request that has been served. It allocates nothing.
func (m *meters) observe(r *http.Request, e *handler.Event) {
	class := classOf(e)
	op := m.operations[e.Operation]()
	op.byStatus[class].Inc()
	op.duration.Observe(e.Duration.Seconds())
	if e.Received+e.Sent > 0 {
		m.received.Add(float64(e.Received))
		m.sent.Add(float64(e.Sent))
	}
	switch {
	case failed(r, e):
		m.failures.WithLabelValues(readiness(e.Err)).Inc()
	case e.Status >= 400 || class == aborted:
	case e.Operation == "put-manifest":
		m.pushes.Inc()
	case e.Operation == "get-manifest" && r.Method == http.MethodGet:
		m.pulls.Inc()
	}
}

// removed counts what the collection of garbage has removed.
func (m *meters) removed(f gc.Finding) {
	m.removals.WithLabelValues(string(f.Kind)).Inc()
	m.freed.Add(float64(f.Size))
}

// aborted is the index of the class of requests whose client got no answer, or
// not all of it.
const aborted = len(statusClasses) - 1

// classOf is the index of an event's class.
func classOf(e *handler.Event) int {
	if e.Status == 0 || e.Status < 400 && e.Err != nil {
		return aborted
	}
	return e.Status/100 - 2
}

// failed reports whether a request failed without a fault of its client, who may
// have gone away but did nothing else.
func failed(r *http.Request, e *handler.Event) bool {
	return e.Status >= 500 || classOf(e) == aborted && r.Context().Err() == nil
}
