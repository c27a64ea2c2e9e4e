  // What a person says of the clips: ok, redo, a note. Kept in this browser for each run, and given away as a review file.
  const Review = (() => {
    const WORDS = ["ok", "redo"];
    const COLUMNS = ["run_id", "identity", "attempt", "review", "note", "destination"];
    const LONGEST = 2000; // characters of a note

    // A spreadsheet must take no cell for a formula; `retry` takes the sign off again.
    function inert(text) {
      const line = text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " ").trim().replace(/(;[\s"]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'");
      return /^[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(line) ? "'" + line : line;
    }

    const quoted = (cell) => (/[",;\r\n]/.test(cell) ? '"' + cell.replaceAll('"', '""') + '"' : cell);

    return class {
      // `rows` as the page has them. A clip is an attempt of an identity: rows that share one are reviewed together.
      constructor(run, part, destination, rows) {
        [this.run, this.destination, this.rows] = [run, destination, rows];
        this.store = "reelsheet review " + run + (part > 1 ? " " + part : "");
        this.isKept = true;
        this.marks = new Map();
        this.places = new Map();
        rows.forEach((row, index) => this.has(index) && this.places.set(this.clip(index), [...(this.places.get(this.clip(index)) || []), index]));
        this.load();
      }

      has(index) {
        return Boolean(this.rows[index].i && this.rows[index].s === "succeeded");
      }

      clip(index) {
        return this.rows[index].i + " " + (this.rows[index].a || "");
      }

      word(index) {
        return this.marks.get(this.clip(index))?.word || "";
      }

      note(index) {
        return this.marks.get(this.clip(index))?.note || "";
      }

      // The rows that show the same clip.
      alike(index) {
        return this.places.get(this.clip(index)) || [];
      }

      set(index, change) {
        if (!this.has(index)) return;
        const mark = { word: this.word(index), note: this.note(index), ...change };
        if (mark.word || mark.note) this.marks.set(this.clip(index), mark);
        else this.marks.delete(this.clip(index));
        this.save();
      }

      // Clips: { ok, redo, left, noted }.
      counts() {
        const all = [...this.marks.values()];
        const [ok, redo] = WORDS.map((word) => all.filter((mark) => mark.word === word).length);
        return { ok, redo, left: this.places.size - ok - redo, marked: all.length };
      }

      csv() {
        const lines = [COLUMNS];
        for (const [clip, [index]] of this.places) {
          const mark = this.marks.get(clip), row = this.rows[index];
          if (mark) lines.push([this.run, row.i, String(row.a || ""), mark.word, mark.note, this.destination].map(inert));
        }
        return lines.map((cells) => cells.map(quoted).join(",") + "\r\n").join("");
      }

      // A browser may have no storage for a page from disk, or none left.
      save() {
        try {
          if (this.marks.size) localStorage.setItem(this.store, JSON.stringify([...this.marks]));
          else localStorage.removeItem(this.store);
          this.isKept = true;
        } catch {
          this.isKept = false;
        }
      }

      load() {
        this.marks.clear();
        let kept = null;
        try {
          kept = localStorage.getItem(this.store);
        } catch {
          this.isKept = false;
        }
        try {
          for (const [clip, mark] of JSON.parse(kept || "[]")) {
            const word = WORDS.includes(mark.word) ? mark.word : "", note = String(mark.note || "").slice(0, LONGEST);
            if (this.places.has(clip) && (word || note)) this.marks.set(clip, { word, note });
          }
        } catch { // not what this page wrote
        }
      }
    };
  })();

  const review = new Review(run, part, destination, rows);
