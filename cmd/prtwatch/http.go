package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness says whether the process does its work, and if not, what it waits for: a line
// for each.
type readiness func() (ready bool, waitingFor []string)

// httpServer answers /metrics, /livez and /readyz.
type httpServer struct {
	server   *http.Server
	listener net.Listener
	ended    chan error
}

// serveHTTP listens on host:port and answers until Close.
func serveHTTP(listen string, registry *prometheus.Registry, ready readiness, log *slog.Logger) (*httpServer, error) {
	listener, err := net.Listen("tcp", listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, wrong(fmt.Errorf("http.listen: %s is in use by another process: end that, or set another port (0 is any that is free)", listen))
	}
	if err != nil {
		return nil, wrong(fmt.Errorf("http.listen: listening on %s: %w; give host:port of this machine", listen, err))
	}
	registry.MustRegister(ready.gauge())
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: errorLog}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	mux.HandleFunc("GET /readyz", ready.answer)
	s := &httpServer{
		server: &http.Server{
			Handler: mux, ErrorLog: errorLog,
			ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		},
		listener: listener,
		ended:    make(chan error, 1),
	}
	go func() { s.ended <- s.server.Serve(listener) }()
	return s, nil
}

// Addr is host:port that it listens on.
func (s *httpServer) Addr() string { return s.listener.Addr().String() }

// Close stops listening and lets what is being answered end within a second.
func (s *httpServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	if serveErr := <-s.ended; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	if err != nil {
		return fmt.Errorf("closing the HTTP server: %w", err)
	}
	return nil
}

// gauge is what answer says, as a metric.
func (ready readiness) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "prtwatch_ready", Help: "1 when /readyz would answer with 200: this process does its work, or stands by.",
	}, func() float64 {
		if ok, _ := ready(); ok {
			return 1
		}
		return 0
	})
}

func (ready readiness) answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	ok, waitingFor := ready()
	if ok {
		_, _ = io.WriteString(w, "ready\n")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, "not ready\n")
	for _, line := range waitingFor {
		fmt.Fprintln(w, line)
	}
}
