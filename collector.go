package ociregistry

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-oci/oci-registry/storage"
)

// collector shows Prometheus one registry of one configuration: what was counted
// there, and how its store does at this moment. Each configuration of Caddy has a
// prometheus.Registry of its own, so a registry that's in it no more isn't shown.
type collector struct{ registry *Registry }

var _ prometheus.Collector = collector{}

// What a collector looks up when it's asked.
var (
	readyDesc = gauge("ready",
		"1 if the registry can be read and written, else 0.")
	openUploadsDesc = gauge("open_uploads",
		"Upload sessions that were begun and neither finished nor cancelled, those that were given up included.")
	freeDesc = gauge("filesystem_free_bytes",
		"Bytes that Caddy may still write to the file system of the registry's root, or of a path's.", "path")
	usedDesc = gauge("filesystem_used_bytes",
		"Bytes used on the file system of the registry's root, or of a path's, by whatever is on it.", "path")
	jobRunningDesc = gauge("job_running",
		"1 while a round of the job runs in this process, else 0.", "job", "path")
	jobDueDesc = gauge("job_due_timestamp_seconds",
		"When the next round of the job is due.", "job", "path")
	jobCompleteDesc = gauge("job_complete_timestamp_seconds",
		"When the last round of the job ended that was complete and no dry run, whatever process ran it.", "job", "path")
	jobProblemsDesc = gauge("job_problems",
		"Problems that this round has found.", "job", "path")
	checkDesc = gauge("storage_check",
		"1 for each thing that the storage has looked at of what it's on, with what it has found.", "check", "path", "verdict")
)

// collected are all that are looked up.
var collected = []*prometheus.Desc{
	readyDesc, openUploadsDesc, freeDesc, usedDesc, jobRunningDesc, jobDueDesc, jobCompleteDesc, jobProblemsDesc,
	checkDesc,
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(metricName(name), help, labels, nil)
}

// register shows r to those who ask for the metrics of its configuration.
func (r *Registry) register(to prometheus.Registerer) error {
	return prometheus.WrapRegistererWith(prometheus.Labels{"registry": r.name}, to).Register(collector{r})
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.registry.meters.all() {
		m.Describe(ch)
	}
	for _, d := range collected {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What isn't known isn't shown.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.registry.meters.all() {
		m.Collect(ch)
	}
	ctx := context.Background()
	ready := 1.0
	err := c.registry.withStore(ctx, func(s storage.Store) error {
		collectUploads(ctx, s, ch)
		return errors.Join(c.collectHomes(ctx, ch), s.Ready(ctx))
	})
	if err != nil {
		ready = 0
	}
	ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, ready)
}

// collectUploads shows what is under way, in all homes together.
func collectUploads(ctx context.Context, s storage.Store, ch chan<- prometheus.Metric) {
	if counter, ok := storage.As[storage.UploadCounter](s); ok {
		if n, err := counter.OpenUploads(ctx); err == nil {
			ch <- prometheus.MustNewConstMetric(openUploadsDesc, prometheus.GaugeValue, float64(n))
		}
	}
}

// collectHomes shows what each home is able to tell of itself. The label of the
// first is empty, which to Prometheus is none.
func (c collector) collectHomes(ctx context.Context, ch chan<- prometheus.Metric) error {
	places, err := c.registry.lease.workplaces(ctx)
	if err != nil {
		return err
	}
	for i, at := range places {
		path := ""
		if i > 0 {
			path = c.registry.homes[i].prefixes[0].String()
		}
		collectSpace(ctx, at, path, ch)
		collectChecks(at, path, ch)
		collectJobs(at, path, ch)
	}
	return nil
}

func collectSpace(ctx context.Context, at *workplace, path string, ch chan<- prometheus.Metric) {
	measurer, ok := storage.As[storage.Measurer](at)
	if !ok {
		return
	}
	if space, err := measurer.Space(ctx); err == nil {
		ch <- prometheus.MustNewConstMetric(freeDesc, prometheus.GaugeValue, float64(space.Free), path)
		ch <- prometheus.MustNewConstMetric(usedDesc, prometheus.GaugeValue, float64(space.Used), path)
	}
}

func collectChecks(at *workplace, path string, ch chan<- prometheus.Metric) {
	diagnoser, ok := storage.As[storage.Diagnoser](at)
	if !ok {
		return
	}
	for _, c := range diagnoser.Diagnose() {
		ch <- prometheus.MustNewConstMetric(checkDesc, prometheus.GaugeValue, 1, c.Name, path, string(c.Verdict))
	}
}

// collectJobs shows what is done in the background.
func collectJobs(at *workplace, path string, ch chan<- prometheus.Metric) {
	if at.runner == nil {
		return
	}
	for _, job := range at.runner.Statuses() {
		show := func(d *prometheus.Desc, value float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, job.Name, path)
		}
		running := 0.0
		if job.Current != nil {
			running = 1
		}
		show(jobRunningDesc, running)
		if !job.Due.IsZero() {
			show(jobDueDesc, float64(job.Due.Unix()))
		}
		if last := job.Complete; last != nil {
			show(jobCompleteDesc, float64(last.Ended.Unix()))
			show(jobProblemsDesc, float64(last.Counts["problems"]))
		}
	}
}
