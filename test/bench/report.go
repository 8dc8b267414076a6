//go:build real

package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// report collects samples and says what they come to.
type report struct {
	rows  []*row
	facts map[string]float64 // figures that aren't rates, such as memory
}

// row is one workload on one system.
type row struct {
	workload, unit, system string
	samples                []sample
}

func newReport() *report { return &report{facts: make(map[string]float64)} }

func (r *report) add(workload, unit, system string, s sample) {
	i := slices.IndexFunc(r.rows, func(r *row) bool { return r.workload == workload && r.system == system })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{workload: workload, unit: unit, system: system})
	}
	r.rows[i].samples = append(r.rows[i].samples, s)
}

// rate is the median of the workload on the system; ok is false if it wasn't measured.
func (r *report) rate(workload, system string) (rate float64, ok bool) {
	for _, row := range r.rows {
		if row.workload == workload && row.system == system {
			return row.rate(), true
		}
	}
	return 0, false
}

// cpu is the median of the server's time for one operation.
func (r *report) cpu(workload, system string) (d time.Duration, ok bool) {
	for _, row := range r.rows {
		if row.workload == workload && row.system == system {
			return median(row.samples, sample.cpuPerOp), true
		}
	}
	return 0, false
}

func (r *row) rate() float64 {
	return median(r.samples, func(s sample) float64 { return s.rate(r.unit) })
}

// late is the median of what one operation in a hundred took, or longer.
func (r *report) late(workload, system string) (d time.Duration, ok bool) {
	for _, row := range r.rows {
		if row.workload == workload && row.system == system {
			return median(row.samples, func(s sample) time.Duration { return s.late }), true
		}
	}
	return 0, false
}

// median of an odd number of samples; of an even one it's the upper of the middle two.
func median[T float64 | time.Duration](samples []sample, of func(sample) T) T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// print shows the rows of a workload, each beside the first.
func (r *report) print(t *testing.T, workload string) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	first := 0.0
	for _, row := range r.rows {
		if row.workload != workload {
			continue
		}
		rate := row.rate()
		if first == 0 {
			first = rate
			_, _ = fmt.Fprintf(w, "%s\t%s/s\tlow\thigh\tp99 ms\tCPU µs/op\tallocs/op\tratio\t\n", workload, row.unit)
		}
		low, high := row.spread()
		allocs := "-"
		if n := median(row.samples, sample.mallocsPerOp); n > 0 {
			allocs = fmt.Sprintf("%.0f", n)
		}
		_, _ = fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.4g\t%.3g\t%.4g\t%s\t%.3g\t\n", row.system, rate, low, high,
			median(row.samples, func(s sample) time.Duration { return s.late }).Seconds()*1e3,
			float64(median(row.samples, sample.cpuPerOp))/1e3, allocs, rate/first)
	}
	_ = w.Flush() // into memory
	t.Logf("\n%s", b.String())
}

func (r *row) spread() (low, high float64) {
	low, high = r.samples[0].rate(r.unit), r.samples[0].rate(r.unit)
	for _, s := range r.samples[1:] {
		low, high = min(low, s.rate(r.unit)), max(high, s.rate(r.unit))
	}
	return low, high
}
