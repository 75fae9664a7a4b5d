// Undo and redo: for each change the rectangle that it changed, before and after.

class UndoHistory {
  // limit: bytes of all changes that are kept; older ones are forgotten.
  constructor(limit) {
    this.limit = limit;
    this.clear();
  }

  // Forgets all changes.
  clear() {
    this.past = [];
    this.future = [];
  }

  // Adds a change {what, rect, before, after}, where before and after are {data, ...}.
  add(change) {
    this.past.push(change);
    this.future = [];
    const bytes = ({ before, after }) => before.data.byteLength + after.data.byteLength;
    let sum = this.past.reduce((total, each) => total + bytes(each), 0);
    while (sum > this.limit && this.past.length > 1) sum -= bytes(this.past.shift());
  }

  // Takes the last change back: returns it, or null where there is none.
  undo() {
    const change = this.past.pop() || null;
    if (change) this.future.push(change);
    return change;
  }

  // Makes the change that was taken back last again: returns it, or null.
  redo() {
    const change = this.future.pop() || null;
    if (change) this.past.push(change);
    return change;
  }
}
