// Two panes, each signed in as a user of its own, each with a live query and a line to run SQL.
//
// Nothing that comes from the server is ever read as HTML: values go into text nodes. Tokens and passwords are kept in
// this page's memory only.
"use strict";

const ROWS_SHOWN_MAX = 500;
const RECONNECT_MS = 1000;

class Pane {
  constructor(root) {
    root.append(document.getElementById("pane").content.cloneNode(true));
    this.root = root;
    this.token = null;
    this.forget(null);
    this.socket = null;
    this.on(".sign-in", (form) => this.signIn(form));
    this.on(".watch", (form) => this.watch(form.elements.sql.value));
    this.on(".write", (form) => this.write(form.elements.sql.value));
  }

  on(selector, act) {
    const form = this.root.querySelector(selector);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      Promise.resolve(act(form)).catch((error) => this.say(String(error), true));
    });
  }

  say(text, wrong = false) {
    const status = this.root.querySelector(".status");
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  }

  async post(path, body) {
    const headers = { "Content-Type": "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    return { ok: response.ok, body: await response.json() };
  }

  async signIn(form) {
    this.leave();
    this.token = null;
    this.enable(false);
    const { user, password } = form.elements;
    const answer = await this.post("/v1/api/auth/login", { user: user.value, password: password.value });
    password.value = "";
    if (!answer.ok) return this.say(answer.body.message ?? "not signed in", true);
    this.token = answer.body.access_token;
    this.enable(true);
    this.say(`signed in as ${answer.body.user.id}`);
  }

  enable(signedIn) {
    for (const button of this.root.querySelectorAll(".watch button, .write button")) button.disabled = !signedIn;
  }

  async write(sql) {
    const { body } = await this.post("/v1/api/sql", { sql });
    if (body.status !== "success") return this.say(body.error?.message ?? "refused", true);
    const last = body.results.at(-1);
    this.say(last?.message ?? `${last?.row_count ?? 0} row(s)`);
  }

  /** Forgets what is shown, for another query. */
  forget(sql) {
    this.sql = sql;
    this.rows = new Map();
    this.columns = [];
    this.cursor = null;
  }

  leave() {
    this.forget(null);
    this.draw();
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  watch(sql) {
    this.leave();
    this.forget(sql);
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/ws?compression=none`);
    this.socket = socket;
    const tell = (message) => socket.send(JSON.stringify(message));
    socket.onopen = () => tell({ type: "authenticate", method: "jwt", token: this.token });
    socket.onmessage = (event) => {
      if (socket === this.socket) this.hear(JSON.parse(event.data), tell);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      // 1008: the server wants no more of this user. Anything else is tried again, from where it broke off.
      if (event.code === 1008) return this.say(event.reason || "signed out by the server", true);
      this.say("disconnected; trying again");
      setTimeout(() => socket === this.socket && this.connect(), RECONNECT_MS);
    };
  }

  hear(message, tell) {
    switch (message.type) {
      case "auth_success": {
        const options = this.cursor === null ? {} : { from: String(this.cursor) };
        return tell({ type: "subscribe", subscription: { id: "pane", sql: this.sql, options } });
      }
      case "subscription_ack":
        this.columns = message.schema.map((column) => column.name).filter((name) => name !== "_seq");
        if (!this.columns.includes("_id")) return this.say("select _id too: rows are known again by it", true);
        return this.say(`watching as of ${new Date().toLocaleTimeString()}`);
      case "initial_data_batch":
        for (const row of message.rows) this.put(row);
        if (message.batch_control.has_more) tell({ type: "next_batch", subscription_id: "pane" });
        return this.draw();
      case "change":
        for (const row of message.old_values ?? []) {
          this.rows.delete(row._id);
          if (message.change_type === "delete") this.reach(row._seq);
        }
        for (const row of message.rows ?? []) this.put(row);
        return this.draw();
      case "error":
        if (message.code === "RESYNC_REQUIRED") {
          this.rows.clear();
          this.cursor = null;
          return;
        }
        return this.say(`${message.code}: ${message.message}`, true);
      case "auth_error":
        return this.say(message.message, true);
    }
  }

  put(row) {
    this.rows.set(row._id, row);
    this.reach(row._seq);
  }

  reach(seq) {
    const at = BigInt(seq);
    if (this.cursor === null || at > this.cursor) this.cursor = at;
  }

  draw() {
    const cells = (kind, values) => values.map((value) => {
      const cell = document.createElement(kind);
      cell.textContent = value === null || value === undefined ? "" : String(value);
      return cell;
    });
    this.root.querySelector("thead tr").replaceChildren(...cells("th", this.columns));
    const newest = [...this.rows.values()].slice(-ROWS_SHOWN_MAX);
    this.root.querySelector("tbody").replaceChildren(...newest.map((row) => {
      const line = document.createElement("tr");
      line.append(...cells("td", this.columns.map((name) => row[name])));
      return line;
    }));
  }
}

for (const id of ["left", "right"]) new Pane(document.getElementById(id));
