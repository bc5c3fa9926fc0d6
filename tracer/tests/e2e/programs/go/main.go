// HTTP servers and clients that tell what they did: one JSON object a line, in the file LOG.
//
//	program server  LOG CERT KEY http|https            serves; prints its port
//	program client  LOG URL GOROUTINES COUNT 1|2       requests by HTTP/1.1 or 2
//	program stack   LOG CERT KEY PAIRS COUNT           both ends, on stacks that move all the time
//
// A client waits for SIGUSR1 before its first request, prints "done" after its last and does it all again, on the same
// connections, at the next SIGUSR1. With a COUNT of 0 it goes on until the next SIGUSR1 and then is done. With AT_ONCE in its
// environment it does not wait, and ends after its last request.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// What one end knows of one exchange.
type entry struct {
	Role    string `json:"role"`
	Local   string `json:"local"`
	Remote  string `json:"remote"`
	Target  string `json:"target"`
	Version string `json:"version"`
	Status  int    `json:"status"`
	Request int    `json:"request_body"`
	Body    int    `json:"response_body"`
}

var (
	logMutex sync.Mutex
	logFile  *os.File
)

func log(e entry) {
	line, err := json.Marshal(e)
	check(err)
	logMutex.Lock()
	defer logMutex.Unlock()
	_, err = logFile.Write(append(line, '\n'))
	check(err)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

// Waits until the tracer is there. What it returns yields the second signal.
func awaitStart() <-chan os.Signal {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1)
	if atOnce() {
		return signals
	}
	fmt.Println("waiting")
	<-signals
	return signals
}

// Whether not to wait, and to end when all is done.
func atOnce() bool {
	return os.Getenv("AT_ONCE") != ""
}

func done() {
	if atOnce() {
		os.Exit(0)
	}
	fmt.Println("done")
	select {}
}

func version(major, minor int) string {
	if major == 2 {
		return "2"
	}
	return fmt.Sprintf("%d.%d", major, minor)
}

func main() {
	var err error
	logFile, err = os.Create(os.Args[2])
	check(err)
	arguments := os.Args[3:]
	switch os.Args[1] {
	case "server":
		server(arguments[0], arguments[1], arguments[2] == "https")
	case "client":
		client(arguments[0], number(arguments[1]), number(arguments[2]), arguments[3] == "2")
	case "stack":
		stack(arguments[0], arguments[1], number(arguments[2]), number(arguments[3]))
	}
}

// Runs code on a stack that is deeper by some hundred bytes a step.
//
//go:noinline
func deeper(steps int, run func()) byte {
	var room [400]byte
	if steps == 0 {
		run()
	} else {
		room[steps%len(room)] = deeper(steps-1, run)
	}
	return room[0]
}

// Counts what a handler writes.
type counter struct {
	http.ResponseWriter
	status, body int
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(bytes []byte) (int, error) {
	n, err := c.ResponseWriter.Write(bytes)
	c.body += n
	return n, err
}

// GET /bytes/N: so many bytes. GET /deep/N: the same, on a deep stack. POST anything: takes it. All else: 404.
func handle(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	switch {
	case len(parts) == 3 && parts[1] == "bytes":
		w.Write([]byte(strings.Repeat("x", number(parts[2]))))
	case len(parts) == 3 && parts[1] == "deep":
		deeper(200, func() { w.Write([]byte(strings.Repeat("d", number(parts[2])))) })
	case r.Method == "POST":
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func server(certificate, key string, tls bool) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	handler := func(w http.ResponseWriter, r *http.Request) {
		request := make([]byte, 1000)
		received := 0
		for {
			n, err := r.Body.Read(request)
			received += n
			if err != nil {
				break
			}
		}
		counted := &counter{w, http.StatusOK, 0}
		handle(counted, r)
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()
		log(entry{"server", local, r.RemoteAddr, r.RequestURI, version(r.ProtoMajor, r.ProtoMinor), counted.status, received, counted.body})
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	fmt.Println(port)
	if tls {
		check(http.ServeTLS(listener, http.HandlerFunc(handler), certificate, key))
	} else {
		check(http.Serve(listener, http.HandlerFunc(handler)))
	}
}
