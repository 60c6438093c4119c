package ca

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// notAfterOf returns the value of the expiry metric for a certificate.
func notAfterOf(t *testing.T, registry *prometheus.Registry, certificate string) time.Time {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "larder_ca_not_after_timestamp_seconds" && m.GetLabel()[0].GetValue() == certificate {
				return time.Unix(int64(m.GetGauge().GetValue()), 0)
			}
		}
	}
	t.Fatalf("no metric says when the %s ends", certificate)
	return time.Time{}
}

func TestExpiryMetricFollowsTheCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		a := open(t, Options{Registerer: registry})
		check := func(when string) {
			t.Helper()
			if got, want := notAfterOf(t, registry, "root"), a.Root().NotAfter; !got.Equal(want) {
				t.Errorf("%s: root ends %v, want %v", when, got, want)
			}
			if got, want := notAfterOf(t, registry, "issuing"), a.Issuing().NotAfter; !got.Equal(want) {
				t.Errorf("%s: intermediate ends %v, want %v", when, got, want)
			}
		}
		check("at first")
		root, issuing := notAfterOf(t, registry, "root"), notAfterOf(t, registry, "issuing")
		time.Sleep(issuingLifetime * 3 / 4)
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		check("after a renewal")
		if !notAfterOf(t, registry, "issuing").After(issuing) || !notAfterOf(t, registry, "root").Equal(root) {
			t.Error("a renewal does not show in the metric of the intermediate alone")
		}
		if _, err := (Keeper{Dir: a.dir}).Rotate(); err != nil {
			t.Fatal(err)
		}
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		check("after a rotation")
		if !notAfterOf(t, registry, "root").After(root) {
			t.Error("a rotation does not show in the metric of the root")
		}
	})
}

// TestWarningBeforeTheEnd looks every day at a larder whose root key is gone, and
// which renews nothing therefore.
func TestWarningBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := open(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err := os.Remove(filepath.Join(a.dir, "root.key")); err != nil {
			t.Fatal(err)
		}
		warnings := func() int {
			defer log.Reset()
			return strings.Count(log.String(), `level=WARN msg="a certificate of the authority ends soon" subject="larder issuing CA`)
		}
		look := func() int {
			t.Helper()
			if err := a.Refresh(); err != nil {
				t.Fatal(err)
			}
			return warnings()
		}
		time.Sleep(time.Until(a.Issuing().NotAfter) - 30*day - time.Minute)
		if n := look(); n != 0 {
			t.Errorf("%d warnings a minute more than 30 days ahead", n)
		}
		time.Sleep(2 * time.Minute)
		if n := look(); n != 1 {
			t.Errorf("%d warnings 30 days ahead, want one", n)
		}
		time.Sleep(time.Hour)
		if n := look(); n != 0 {
			t.Errorf("%d warnings an hour later, want one a day", n)
		}
		time.Sleep(day)
		if n := look(); n != 1 {
			t.Errorf("%d warnings a day later, want one", n)
		}
		log.Reset()
		open(t, Options{Dir: a.dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if n := warnings(); n != 1 {
			t.Errorf("%d warnings at a start, want one", n)
		}
	})
}

func TestWarningBeforeTheEndOfTheRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{})
		time.Sleep(time.Until(a.Root().NotAfter) - 29*day)
		var log bytes.Buffer
		open(t, Options{Dir: a.dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if !strings.Contains(log.String(), `ends soon" subject="larder root CA`) {
			t.Errorf("no warning about the root:\n%s", &log)
		}
	})
}
